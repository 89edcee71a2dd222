"""Writes the option tables of docs/reference/cli.md from the parsers of the commands.

The page around the tables is written by hand; only what stands between the two marks is generated.

Usage: generate_cli.py [--check]
"""

from __future__ import annotations

import re
import sys
from argparse import SUPPRESS, Action
from collections.abc import Sequence

import layers
from generated_page import write_or_check
from plumbline.product.cli.catalogue import COMMANDS, CommandEntry
from plumbline.product.cli.entry import make_parser

PAGE = layers.ROOT / "docs" / "reference" / "cli.md"
BEGIN = "<!-- Generated from here by scripts/generate_cli.py; `make generate` rewrites it. -->"
END = "<!-- Generated to here. -->"
COMMON = ("--help", "--json")
MODEL_COMMANDS = ("compile", "plan", "run", "trace")

Row = tuple[str, str]


def main(arguments: list[str]) -> int:
    """Write or check the page; returns the exit code."""
    return write_or_check(PAGE, render(), check="--check" in arguments)


def render() -> str:
    """The whole page as Markdown: the committed prose with current tables."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{rest.split(END)[1]}"


def tables() -> str:
    """The options that the model commands share, then those of each command."""
    rows = {entry.name: _rows(entry) for entry in COMMANDS}
    shared = [row for row in rows["compile"] if all(row in rows[name] for name in MODEL_COMMANDS)]
    parts = [f"### Options of {_words(MODEL_COMMANDS)}", _table(shared)]
    for entry in COMMANDS:
        own = [row for row in rows[entry.name] if row not in shared]
        parts.append(f"### `plumb {entry.name}`")
        parts.append(f"{entry.summary[0].upper()}{entry.summary[1:]}.")
        if entry.name in MODEL_COMMANDS:
            parts[-1] += " Takes the options above, and:"
        parts.append(_table(own) if own else "No options of its own.")
    return "\n\n".join(parts)


def _words(commands: Sequence[str]) -> str:
    named = [f"`plumb {name}`" for name in commands]
    return f"{', '.join(named[:-1])} and {named[-1]}"


def _table(rows: Sequence[Row]) -> str:
    return "\n".join(["| argument | means |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)])


def _rows(entry: CommandEntry) -> list[Row]:
    """(argument, meaning) of a command, without `--help` and `--json`."""
    parser = make_parser(entry)
    entry.load().configure(parser)
    return [
        (_name(action), _meaning(action))
        for action in parser._actions
        if action.help is not SUPPRESS and not set(COMMON) & set(action.option_strings)
    ]


def _name(action: Action) -> str:
    value = action.metavar or ("{" + ",".join(action.choices) + "}" if action.choices else "")
    flags = action.option_strings or [""]
    return ", ".join(f"`{f'{flag} {value}'.strip()}`" for flag in flags)


def _meaning(action: Action) -> str:
    text = re.sub(r"\s+", " ", action.help or "")
    return text.replace("%(default)s", str(action.default)).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
