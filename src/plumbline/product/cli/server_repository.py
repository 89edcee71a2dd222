"""`plumb repository ...`: the repository of a server, as Triton's clients see it, and publishing into one."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plumbline.product.cli.answer import Answer, table
from plumbline.product.cli.arguments import add_document_file, parse_assignment
from plumbline.product.cli.server_command import ServerCommand, short
from plumbline.product.cli.server_models import json_or_text

if TYPE_CHECKING:
    from plumbline.product.client import Client
    from plumbline.serving.repository.port import Repository

__all__ = ["INDEX", "LOAD", "PUBLISH", "UNLOAD"]

_SLOW_S = 3600.0


def _index_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--ready", action="store_true", help="only versions that serve")


def _index(client: Client, arguments: Namespace) -> Answer:
    body = {"ready": True} if arguments.ready else {}
    document = client.ask("POST", "/v2/repository/index", document=body)
    names = ["name", "version", "state", "reason"]
    rows = [[short(entry.get(name)) for name in names] for entry in document["items"]]
    return Answer(document={"versions": document["items"]}, text=table(rows, names))


def _change_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="name of the model")
    parser.add_argument("--version", metavar="V", help="this version")


def _load_arguments(parser: ArgumentParser) -> None:
    _change_arguments(parser)
    parser.add_argument(
        "--setting", action="append", default=[], metavar="NAME=VALUE", type=parse_assignment,
        help="a setting of version.toml; the value is JSON or text",
    )  # fmt: skip


def _load(client: Client, arguments: Namespace) -> Answer:
    settings = {name: json_or_text(value) for name, value in arguments.setting}
    return _change(client, arguments, "load", {"config": json.dumps(settings)} if settings else {})


def _unload(client: Client, arguments: Namespace) -> Answer:
    return _change(client, arguments, "unload", {})


def _change(client: Client, arguments: Namespace, what: str, parameters: dict[str, Any]) -> Answer:
    from plumbline.product.client.transport import place

    if arguments.version is not None:
        parameters = {**parameters, "version": arguments.version}
    path = place("v2", "repository", "models", arguments.model, what)
    client.call("POST", path, document={"parameters": parameters}, timeout_s=_SLOW_S)
    done = f"{arguments.model} {'is ready' if what == 'load' else 'is unloaded'}"
    return Answer(document={"model": arguments.model, "done": what}, text=done)


class _Publish:
    """Writes into a repository; no server is asked."""

    def configure(self, parser: ArgumentParser) -> None:
        """Arguments of `plumb repository publish`."""
        add = parser.add_argument
        add("model", metavar="MODEL", help="name of the model")
        add("version", metavar="VERSION", help="new version")
        add("source", metavar="SOURCE", help="a folder, or one file; an ONNX file becomes model.onnx")
        add("--revision", required=True, help="of the source, such as a commit")
        add("--models", metavar="DIR", default="models", help="the repository: folder, or address of one")
        add("--pin", action="store_true", help="give it all requests that name no version")
        add_document_file(parser)

    def execute(self, arguments: Namespace) -> Answer:
        """Publish; the version appears whole or not at all."""
        from plumbline.contracts.inference import VersionRef

        ref = VersionRef(model=arguments.model, version=arguments.version)
        repository = _open(arguments.models)
        published = repository.publish(ref, _source(arguments.source), revision=arguments.revision)
        if arguments.pin:
            published = repository.pin(ref)
        document = {
            "model": ref.model, "version": ref.version, "digest": published.digest,
            "revision": published.revision, "size_bytes": published.size_bytes,
            "state": published.state.value,
        }  # fmt: skip
        return Answer(document=document, text=f"{ref} {published.state.value} {published.digest}")


def _open(place: str) -> Repository:
    if place.startswith(("http://", "https://")):
        from plumbline.serving.repository.http_client import HttpRepository

        return HttpRepository(place, allow_code=False)
    from plumbline.serving.repository.folder import FolderRepository

    return FolderRepository(Path(place))


def _source(text: str) -> Path | dict[str, bytes]:
    from plumbline.product.cli.arguments import ArrayFileRefused

    path = Path(text)
    if not path.is_file():
        return path
    try:
        return {"model.onnx" if path.suffix == ".onnx" else path.name: path.read_bytes()}
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise ArrayFileRefused(file=path.name, reason=reason) from error


INDEX = ServerCommand(run=_index, arguments=_index_arguments)
LOAD = ServerCommand(run=_load, arguments=_load_arguments)
UNLOAD = ServerCommand(run=_unload, arguments=_change_arguments)
PUBLISH = _Publish()
