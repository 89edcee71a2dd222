"""Every command: its words, one line of summary, and the module that is imported when it is called."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from plumbline.product.cli.answer import Answer

__all__ = ["COMMANDS", "CommandEntry", "CommandModule", "find_command"]

_PACKAGE = "plumbline.product.cli"


class CommandModule(Protocol):
    """What the module of a command offers. Importing it must stay cheap."""

    def configure(self, parser: ArgumentParser) -> None:
        """Add the arguments of the command."""

    def execute(self, arguments: Namespace) -> Answer:
        """Do it. Raises typed errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandEntry:
    """One command."""

    words: tuple[str, ...]
    summary: str
    module: str

    @property
    def name(self) -> str:
        """The words as typed."""
        return " ".join(self.words)

    def load(self) -> CommandModule:
        """Import the module of the command."""
        return cast(CommandModule, import_module(f"{_PACKAGE}.{self.module}"))


def _entry(name: str, summary: str) -> CommandEntry:
    words = tuple(name.split())
    return CommandEntry(words=words, summary=summary, module="_".join(words))


COMMANDS: tuple[CommandEntry, ...] = (
    _entry("devices", "list devices with measured facts, and why others are absent"),
    _entry("doctor", "examine the machine"),
    _entry("kernels", "list operations with element types and implementation"),
    _entry("compile", "build an executable; --explain lists the decisions"),
    _entry("plan", "show the memory plan; --svg draws it"),
    _entry("run", "run a model on given or generated input"),
    _entry("bench", "measure against peers, interleaved in one process"),
    _entry("calibrate", "measure cost bounds under load, so that deadlines can be promised"),
    _entry("serve", "serve a model repository over REST, gRPC, tasks and WebSocket"),
    _entry("trace", "run once with trace points, written as JSON lines"),
    _entry("trace export", "convert a trace for the Perfetto viewer"),
    _entry("trace check", "check that a trace follows its schema and agrees with itself"),
    _entry("replay", "decide a recorded load again, and compare every decision"),
    _entry("explain", "say what happened to a request, from the decision log alone"),
    _entry("sched simulate", "compare scheduling policies on a recorded load"),
    _entry("cache ls", "list the executables in the cache"),
    _entry("cache gc", "remove what was used longest ago until the rest fits"),
    _entry("cache path", "print the folder of the cache"),
    _entry("conformance", "run the ONNX backend test suite"),
    _entry("demo", "semantic search over the documentation of Python"),
)


def find_command(arguments: Sequence[str]) -> tuple[CommandEntry | None, list[str]]:
    """The command with the most words that `arguments` begin with, and the arguments after it."""
    for entry in sorted(COMMANDS, key=lambda e: -len(e.words)):
        count = len(entry.words)
        if tuple(arguments[:count]) == entry.words:
            return entry, list(arguments[count:])
    return None, list(arguments)
