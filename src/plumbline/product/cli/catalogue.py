"""Every command: its words, one line of summary, and the module that is imported when it is called."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from plumbline.product.cli.answer import Answer

__all__ = ["COMMANDS", "GROUPS", "CommandEntry", "CommandModule", "find_command"]

_PACKAGE = "plumbline.product.cli"


class CommandModule(Protocol):
    """What the module of a command offers. Importing it must stay cheap."""

    def configure(self, parser: ArgumentParser) -> None:
        """Add the arguments of the command."""

    def execute(self, arguments: Namespace) -> Answer:
        """Do it. Raises typed errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandEntry:
    """One command. `module` is the module that is the command, or `module:NAME` of an object in one."""

    words: tuple[str, ...]
    summary: str
    module: str

    @property
    def name(self) -> str:
        """The words as typed."""
        return " ".join(self.words)

    def load(self) -> CommandModule:
        """Import the module of the command."""
        module, _, name = self.module.partition(":")
        found = import_module(f"{_PACKAGE}.{module}")
        return cast(CommandModule, getattr(found, name) if name else found)


def _entry(name: str, summary: str) -> CommandEntry:
    words = tuple(name.split())
    return CommandEntry(words=words, summary=summary, module="_".join(words))


def _asks(name: str, module: str, summary: str) -> CommandEntry:
    """A command that asks a server: an object of `server_<module>`, named by its last word."""
    words = tuple(name.split())
    return CommandEntry(
        words=words, summary=summary, module=f"server_{module}:{words[-1].upper().replace('-', '_')}"
    )


COMMANDS: tuple[CommandEntry, ...] = (
    _entry("devices", "list devices with measured facts, and why others are absent"),
    _entry("doctor", "examine the machine"),
    _entry("kernels", "list operations with element types and implementation"),
    _entry("compile", "build an executable; --explain lists the decisions"),
    _entry("plan", "show the memory plan; --svg draws it"),
    _entry("run", "run a model on given or generated input"),
    _entry("bench", "measure against peers, interleaved in one process"),
    _entry("bench serve", "measure our server against others, one at a time"),
    _entry("bench soak", "serve under load for long; pass when memory and handles stay flat"),
    _entry("bench mixed", "three models with deadlines on one stream; policies compared"),
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
    _asks("health", "service", "say whether a server is ready; exit code 1 when not"),
    _asks("info", "service", "say what a server is, and who you are to it"),
    _asks("infer", "infer", "run a model at a server"),
    _asks("models ls", "models", "list the models of a server with the state of each version"),
    _asks("models show", "models", "show a model, or a version, with its inputs and outputs"),
    _asks("models versions", "models", "list the versions of a model"),
    _asks("models plan", "plan", "show the memory plan of a version at a server; --svg keeps its picture"),
    _asks("models ready", "models", "say whether a model serves; exit code 1 when not"),
    _asks("models metadata", "models", "show inputs and outputs, as the Open Inference Protocol has them"),
    _asks("models config", "models", "show the configuration of a model, as the protocol has it"),
    _asks("models stats", "models", "show counts and times of inferences"),
    _asks("models load", "models", "load a version; ends when it is ready"),
    _asks("models unload", "models", "unload a version, or all; ends when the memory is given back"),
    _asks("models canary", "models", "give a version a share of the requests, or show the canary"),
    _asks("models rollback", "models", "take its share from the canary of a model"),
    _asks("models promote", "models", "give the canary of a model all requests that name no version"),
    _asks("models pin", "models", "give a version all requests that name none, whatever becomes ready"),
    _asks("models unpin", "models", "take the pin away"),
    _asks("models retire", "models", "end the use of a version for good"),
    _asks("repository index", "repository", "list versions and their states, as the protocol has them"),
    _asks("repository load", "repository", "load a version by the protocol"),
    _asks("repository unload", "repository", "unload a version by the protocol"),
    _asks("repository publish", "repository", "add a version to a repository; no server is asked"),
    _asks("tasks submit", "tasks", "submit a durable task"),
    _asks("tasks ls", "tasks", "list tasks, newest first"),
    _asks("tasks show", "tasks", "show a task, with its result once it succeeded"),
    _asks("tasks cancel", "tasks", "ask for the end of a task"),
    _asks("tasks wait", "tasks", "wait for a task; exit code 1 when it did not succeed"),
    _asks("devices show", "devices", "show a device of a server with the memory that is free"),
    _asks("devices drain", "devices", "let a device of a server take no new work"),
    _asks("devices resume", "devices", "let a drained device of a server take work again"),
    _asks("devices retire", "devices", "end the use of a drained device until the server starts again"),
    _asks("workers", "service", "list the workers of a server with queue, progress and memory"),
    _asks("workers output", "service", "print what a worker printed last, and why a Python class failed"),
    _asks("keys create", "keys", "create an API key, at a server or in its store"),
    _asks("keys ls", "keys", "list API keys, revoked ones too"),
    _asks("keys revoke", "keys", "revoke an API key"),
    _asks("timeline", "service", "list the last launches at a server"),
    _asks("events", "events", "follow the events of a server"),
    _asks("metrics", "service", "print the Prometheus series of a server"),
    _asks("trace-setting", "service", "show or change which requests leave their times in the trace"),
    _asks("openapi", "service", "list the routes of a server; --json prints the document"),
)

GROUPS: Mapping[str, str] = {
    "cache": "look after compiled executables",
    "sched": "compare scheduling policies",
    "models": "models of a server, their versions, and what becomes of them",
    "repository": "versions of a repository",
    "tasks": "durable work at a server",
    "keys": "API keys",
}
"""What commands of two words have in common, by their first."""


def find_command(arguments: Sequence[str]) -> tuple[CommandEntry | None, list[str]]:
    """The command with the most words that `arguments` begin with, and the arguments after it."""
    for entry in sorted(COMMANDS, key=lambda e: -len(e.words)):
        count = len(entry.words)
        if tuple(arguments[:count]) == entry.words:
            return entry, list(arguments[count:])
    return None, list(arguments)
