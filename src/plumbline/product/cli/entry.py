"""`plumb`: find the command, run it, and turn whatever happens into one line, one document and one exit code.

Parsing uses argparse because the whole of `plumb --help` shall stay far under 200 ms.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from plumbline.errors import PlumblineError, ValidationError
from plumbline.product.cli.answer import to_json, write_answer
from plumbline.product.cli.catalogue import COMMANDS, GROUPS, CommandEntry, find_command
from plumbline.product.cli.exit_codes import ExitCode, exit_code_of

__all__ = ["CommandLineRefused", "main", "make_parser"]


@dataclass(eq=False, kw_only=True)
class CommandLineRefused(ValidationError):
    """The command line is not understood."""

    code = "validation.command_line"
    owner = "product"
    template = "{reason} (see `{command} --help`)"

    command: str
    reason: str


class _Parser(ArgumentParser):
    """Refuses with a typed error instead of leaving the process."""

    def error(self, message: str) -> NoReturn:
        raise CommandLineRefused(command=self.prog, reason=message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        arguments: words after `plumb`; default: those of the process.

    Returns:
        The exit code, see `ExitCode`.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    try:
        return _run(words)
    except PlumblineError as error:
        return _report(error, as_json)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as bug:  # noqa: BLE001  the edge of the process: a defect ends this command and says so
        return _report_bug(bug, as_json)


def _run(words: Sequence[str]) -> int:
    entry, rest = find_command(words)
    if entry is None:
        return _run_without_command(words)
    command = entry.load()
    parser = make_parser(entry)
    command.configure(parser)
    try:
        arguments = parser.parse_args(rest)
    except SystemExit as leave:  # --help
        return int(leave.code or 0)
    answer = command.execute(arguments)
    write_answer(answer, as_json=arguments.json, file=getattr(arguments, "document_file", None))
    return int(answer.exit_code)


def make_parser(entry: CommandEntry) -> ArgumentParser:
    """An empty parser of one command with `--json`."""
    parser = _Parser(
        prog=f"plumb {entry.name}",
        description=f"{entry.summary[0].upper()}{entry.summary[1:]}.",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _run_without_command(words: Sequence[str]) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        sys.stdout.write(_overview())
        return ExitCode.OK if words else ExitCode.USAGE
    if words[0] == "--version":
        from plumbline import __version__

        sys.stdout.write(f"plumb {__version__}\n")
        return ExitCode.OK
    group = [entry for entry in COMMANDS if entry.words[0] == words[0]]
    if group and words[1:2] in (["--help"], ["-h"]):
        sys.stdout.write(f"usage: plumb {words[0]} COMMAND [options]\n\n{_lines(group)}\n")
        return ExitCode.OK
    names = ", ".join(e.name for e in group or COMMANDS if group or len(e.words) == 1)
    found = "a command is missing after" if group else "there is no command"
    raise CommandLineRefused(command="plumb", reason=f"{found} {words[0]!r}; known: {names}")


def _overview() -> str:
    tops: dict[str, CommandEntry] = {}
    for entry in COMMANDS:
        tops.setdefault(entry.words[0], entry)
    listing = "\n".join(f"  {word:<13} {_summary(word, entry)}" for word, entry in tops.items())
    codes = "; ".join(f"{code.value} {code.name.lower().replace('_', ' ')}" for code in ExitCode)
    return (
        "usage: plumb COMMAND [options]\n\nFrom a model file to planned, native execution.\n\n"
        f"commands:\n{listing}\n\n"
        "`plumb COMMAND --help` says more; `plumb --version` says which this is.\n"
        f"exit codes: {codes}\n"
    )


def _summary(word: str, entry: CommandEntry) -> str:
    parts = [e.words[1] for e in COMMANDS if e.words[0] == word and len(e.words) == 2]
    if len(entry.words) == 2:
        return f"{GROUPS[word]}: {' | '.join(parts)}"
    return f"{entry.summary}; also: {', '.join(parts)}" if parts else entry.summary


def _lines(entries: Sequence[CommandEntry]) -> str:
    return "\n".join(f"  {entry.name:<14} {entry.summary}" for entry in entries)


def _report(error: PlumblineError, as_json: bool) -> int:
    if as_json:
        sys.stdout.write(to_json({"error": error.to_dict()}) + "\n")
    else:
        sys.stderr.write(f"error[{error.code}]: {' '.join(error.message.split())}\n")
    return ExitCode.USAGE if isinstance(error, CommandLineRefused) else exit_code_of(error)


def _report_bug(bug: Exception, as_json: bool) -> int:
    traceback.print_exc()
    message = f"a defect of Plumbline: {type(bug).__name__}: {bug}"
    if as_json:
        sys.stdout.write(to_json({"error": {"code": "bug", "message": message}}) + "\n")
    else:
        sys.stderr.write(f"error[bug]: {' '.join(message.split())}\n")
    return ExitCode.BUG
