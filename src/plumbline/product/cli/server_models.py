"""`plumb models ...`: models of a server, their versions, and what becomes of them."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from plumbline.product.cli.answer import Answer, table
from plumbline.product.cli.arguments import parse_assignment
from plumbline.product.cli.exit_codes import ExitCode
from plumbline.product.cli.server_command import ServerCommand, short

if TYPE_CHECKING:
    from plumbline.product.client import Client

__all__ = [
    "CANARY", "CONFIG", "LOAD", "LS", "METADATA", "PIN", "PROMOTE", "READY", "RETIRE", "ROLLBACK", "SHOW",
    "STATS", "UNLOAD", "UNPIN", "VERSIONS",
]  # fmt: skip

_VERSION_COLUMNS = ["model", "version", "state", "pinned", "share", "kind", "memory_bytes", "reason"]
_SLOW_S = 3600.0


def add_model_name(parser: ArgumentParser) -> None:
    """MODEL and `--version`."""
    parser.add_argument("model", metavar="MODEL", help="name of the model")
    parser.add_argument("--version", metavar="V", help="this version")


def _only_name(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="name of the model")


def _name_and_version(parser: ArgumentParser) -> None:
    _only_name(parser)
    parser.add_argument("version", metavar="VERSION", help="which version")


def _ls(client: Client, arguments: Namespace) -> Answer:
    document = client.ask("GET", "/api/v1/models")
    return Answer(document=document, text=_table([v for m in document["models"] for v in m["versions"]]))


def _show(client: Client, arguments: Namespace) -> Answer:
    if arguments.version is None:
        document = client.model(arguments.model)
        return Answer(document=document, text=_described(document["versions"]))
    document = client.ask("GET", _native(arguments.model, "versions", arguments.version))
    return Answer(document=document, text=_described([document]))


def _versions(client: Client, arguments: Namespace) -> Answer:
    document = client.ask("GET", _native(arguments.model, "versions"))
    return Answer(document={"versions": document["items"]}, text=_table(document["items"]))


def _ready(client: Client, arguments: Namespace) -> Answer:
    path = _protocol(arguments.model, arguments.version, "ready")
    ready = client.call("GET", path, accept=frozenset({400, 404})).status == 200
    exit_code = ExitCode.OK if ready else ExitCode.CHECK_FAILED
    return Answer(document={"ready": ready}, text="ready" if ready else "not ready", exit_code=exit_code)


def _metadata(client: Client, arguments: Namespace) -> Answer:
    document = client.metadata(arguments.model, arguments.version)
    rows = [
        [where, tensor["name"], tensor["datatype"], short(tensor["shape"])]
        for where, key in (("input", "inputs"), ("output", "outputs"))
        for tensor in document.get(key, [])
    ]
    return Answer(document=document, text=table(rows, ["", "name", "datatype", "shape"]))


def _config(client: Client, arguments: Namespace) -> Answer:
    document = client.ask("GET", _protocol(arguments.model, arguments.version, "config"))
    return Answer(document=document, text=json.dumps(document, indent=2))


def _stats_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", metavar="MODEL", help="this model (default: all)")
    parser.add_argument("--version", metavar="V", help="this version")


def _stats(client: Client, arguments: Namespace) -> Answer:
    path = "/v2/models/stats"
    if arguments.model:
        path = _protocol(arguments.model, arguments.version, "stats")
    document = client.ask("GET", path)
    rows = [_stats_row(entry) for entry in document["model_stats"]]
    headings = ["model", "version", "inferences", "launches", "failed", "mean queue us", "mean compute us"]
    return Answer(document=document, text=table(rows, headings))


def _stats_row(entry: dict[str, Any]) -> list[Any]:
    stats = entry["inference_stats"]

    def mean_us(name: str) -> float:
        total = stats[name]
        return round(float(total["ns"]) / max(1, int(total["count"])) / 1000, 1)

    return [
        entry["name"], entry["version"], entry["inference_count"], entry["execution_count"],
        stats["fail"]["count"], mean_us("queue"), mean_us("compute_infer"),
    ]  # fmt: skip


def _load_arguments(parser: ArgumentParser) -> None:
    add_model_name(parser)
    parser.add_argument(
        "--setting", action="append", default=[], metavar="NAME=VALUE", type=parse_assignment,
        help="a setting of version.toml; the value is JSON or text",
    )  # fmt: skip


def _load(client: Client, arguments: Namespace) -> Answer:
    from plumbline.product.cli.progress import StageProgress

    settings = {name: json_or_text(value) for name, value in arguments.setting}
    with StageProgress(quiet=arguments.json) as progress:
        progress.start(f"loading {arguments.model}")
        document = client.load(arguments.model, arguments.version, settings or None)
    return Answer(document=document, text=_table(document["versions"]))


def _unload(client: Client, arguments: Namespace) -> Answer:
    document = client.unload(arguments.model, arguments.version)
    return Answer(document=document, text=_table(document["versions"]))


def _canary_arguments(parser: ArgumentParser) -> None:
    _only_name(parser)
    parser.add_argument("version", nargs="?", metavar="VERSION", help="to try; without, say what runs")
    parser.add_argument("--share", type=float, default=0.1, help="of unpinned requests, 0 to 1 (default 0.1)")


def _canary(client: Client, arguments: Namespace) -> Answer:
    if arguments.version is None:
        return _rollout(client.ask("GET", _native(arguments.model, "canary")))
    body = {"version": arguments.version, "share": arguments.share}
    return _rollout(client.ask("PUT", _native(arguments.model, "canary"), document=body))


def _rollback(client: Client, arguments: Namespace) -> Answer:
    return _rollout(client.ask("DELETE", _native(arguments.model, "canary")))


def _promote(client: Client, arguments: Namespace) -> Answer:
    return _rollout(client.ask("POST", _native(arguments.model, "canary", "promote")))


def _pin(client: Client, arguments: Namespace) -> Answer:
    return _version(client.ask("PUT", _native(arguments.model, "versions", arguments.version, "pin")))


def _unpin(client: Client, arguments: Namespace) -> Answer:
    return _version(client.ask("DELETE", _native(arguments.model, "versions", arguments.version, "pin")))


def _retire(client: Client, arguments: Namespace) -> Answer:
    path = _native(arguments.model, "versions", arguments.version, "retire")
    return _version(client.ask("POST", path, timeout_s=_SLOW_S))


def json_or_text(value: str) -> Any:
    """A value of the command line.

    >>> json_or_text("3"), json_or_text("x")
    (3, 'x')
    """
    try:
        return json.loads(value)
    except ValueError:
        return value


def _native(*parts: str) -> str:
    from plumbline.product.client.transport import place

    return place("api", "v1", "models", *parts)


def _protocol(model: str, version: str | None, last: str) -> str:
    from plumbline.product.client.client import version_path

    return f"{version_path(model, version)}/{last}"


def _rollout(document: dict[str, Any]) -> Answer:
    return Answer(document=document, text="\n".join(f"{n}: {short(v)}" for n, v in document.items()))


def _version(document: dict[str, Any]) -> Answer:
    return Answer(document=document, text=_table([document]))


def _table(versions: list[dict[str, Any]]) -> str:
    rows = [[_cell(version, name) for name in _VERSION_COLUMNS] for version in versions]
    reasons = [
        f"{version['model']}@{version['version']} runs unbatched because {version['unbatched_because']}"
        for version in versions
        if version.get("unbatched_because") and version.get("kind") != "pipeline"
    ]
    return "\n\n".join([table(rows, _VERSION_COLUMNS), *(["\n".join(reasons)] if reasons else [])])


def _cell(version: dict[str, Any], name: str) -> str:
    if name == "memory_bytes":
        return memory_text(version)
    return short(version.get(name))


def memory_text(version: dict[str, Any]) -> str:
    """Planned or stated bytes of a version; what nobody stated is said, and never counted as 0.

    >>> memory_text({"memory_bytes": 512, "memory_unstated": ["stage1.objects"]})
    '512, stage1.objects not stated'
    >>> memory_text({"memory_bytes": None, "memory_unstated": ["objects"]}), memory_text({})
    ('not stated', '')
    """
    stated, unstated = version.get("memory_bytes"), version.get("memory_unstated") or []
    if not unstated:
        return short(stated)
    return "not stated" if stated is None else f"{stated}, {', '.join(unstated)} not stated"


def _described(versions: list[dict[str, Any]]) -> str:
    rows = [
        [version["version"], where, tensor["name"], tensor["datatype"], short(tensor["shape"])]
        for version in versions
        for where, key in (("input", "inputs"), ("output", "outputs"))
        for tensor in version.get(key) or []
    ]
    return f"{_table(versions)}\n\n{table(rows, ['version', '', 'tensor', 'datatype', 'shape'])}"


LS = ServerCommand(run=_ls)
SHOW = ServerCommand(run=_show, arguments=add_model_name)
VERSIONS = ServerCommand(run=_versions, arguments=_only_name)
READY = ServerCommand(run=_ready, arguments=add_model_name)
METADATA = ServerCommand(run=_metadata, arguments=add_model_name)
CONFIG = ServerCommand(run=_config, arguments=add_model_name)
STATS = ServerCommand(run=_stats, arguments=_stats_arguments)
LOAD = ServerCommand(run=_load, arguments=_load_arguments)
UNLOAD = ServerCommand(run=_unload, arguments=add_model_name)
CANARY = ServerCommand(run=_canary, arguments=_canary_arguments)
ROLLBACK = ServerCommand(run=_rollback, arguments=_only_name)
PROMOTE = ServerCommand(run=_promote, arguments=_only_name)
PIN = ServerCommand(run=_pin, arguments=_name_and_version)
UNPIN = ServerCommand(run=_unpin, arguments=_name_and_version)
RETIRE = ServerCommand(run=_retire, arguments=_name_and_version)
