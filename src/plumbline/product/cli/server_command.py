"""Commands that talk to a running server: their common arguments, the key, and the client."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plumbline.errors import ArtifactError
from plumbline.product.cli.answer import Answer
from plumbline.product.cli.arguments import add_document_file

if TYPE_CHECKING:
    from plumbline.product.client import Client

__all__ = ["DEFAULT_SERVER", "KeyFileRefused", "ServerCommand", "add_server", "open_client", "short"]

DEFAULT_SERVER = "http://127.0.0.1:8000"
_MAX_KEY_BYTES = 1024
_CELL_CHARACTERS = 60

Configure = Callable[[ArgumentParser], None]


@dataclass(eq=False, kw_only=True)
class KeyFileRefused(ArtifactError):
    """The file of `--key-file` holds no key."""

    code = "artifact.key_file"
    owner = "product"
    template = "key file {file!r}: {reason}"

    file: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCommand:
    """A command that asks a server. `run` gets an open client; `arguments` adds its own arguments."""

    run: Callable[[Client, Namespace], Answer]
    arguments: Configure = lambda parser: None

    def configure(self, parser: ArgumentParser) -> None:
        """Its own arguments, and those of every such command."""
        self.arguments(parser)
        add_server(parser)
        add_document_file(parser)

    def execute(self, arguments: Namespace) -> Answer:
        """Ask."""
        with open_client(arguments) as client:
            return self.run(client, arguments)


def add_server(parser: ArgumentParser, *, default: str | None = DEFAULT_SERVER) -> None:
    """`--server`, `--key-file` and `--timeout`."""
    said = "" if default is None else f" (default {default})"
    parser.add_argument("--server", metavar="URL", default=default, help=f"address of a server{said}")
    parser.add_argument(
        "--key-file", metavar="FILE", help="holds the API key (default: the key in PLUMBLINE_API_KEY)"
    )
    parser.add_argument(
        "--answer-timeout", type=float, default=60.0, metavar="S", help="most seconds for an answer"
    )


def open_client(arguments: Namespace) -> Client:
    """A client as the arguments say.

    Raises:
        KeyFileRefused: the file cannot be read or holds no key.
        ServerAddressRefused: `--server` is no address.
    """
    from plumbline.config.settings import read_settings
    from plumbline.product.client import Client

    key = read_settings().api_key if arguments.key_file is None else _read_key(arguments.key_file)
    return Client(arguments.server, key=key, timeout_s=arguments.answer_timeout)


def short(value: Any) -> str:
    """A value in one cell of a table.

    >>> short(None), short(True), short(["a", "b"])
    ('', 'yes', 'a,b')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ",".join(str(item) for item in value) if isinstance(value, list) else str(value)
    return text if len(text) <= _CELL_CHARACTERS else f"{text[: _CELL_CHARACTERS - 3]}..."


def _read_key(file: str) -> str:
    name = Path(file).name
    try:
        with Path(file).open("rb") as opened:
            text = opened.read(_MAX_KEY_BYTES + 1).decode("ascii").strip()
    except OSError as error:
        raise KeyFileRefused(file=name, reason=(error.strerror or "unreadable").lower()) from error
    except UnicodeDecodeError:
        raise KeyFileRefused(file=name, reason="not a line of text") from None
    if not text or len(text) > _MAX_KEY_BYTES or not text.isprintable() or " " in text:
        raise KeyFileRefused(file=name, reason="expected one key and nothing else")
    return text
