"""`plumb health`, `info`, `openapi`, `metrics`, `workers`, `timeline`, `trace-setting`: the server itself."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from plumbline.product.cli.answer import Answer, table
from plumbline.product.cli.arguments import parse_assignment, parse_count
from plumbline.product.cli.exit_codes import ExitCode
from plumbline.product.cli.server_command import ServerCommand, short

if TYPE_CHECKING:
    from plumbline.product.client import Client

__all__ = ["HEALTH", "INFO", "METRICS", "OPENAPI", "OUTPUT", "TIMELINE", "TRACE_SETTING", "WORKERS"]

_NOT_READY = frozenset({503})
_INFO_PATHS = {"api": "/api/v1/info", "gateway": "/", "protocol": "/v2"}


def _health_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "check", nargs="?", choices=("all", "live", "ready"), default="all", help="which (default all)"
    )
    parser.add_argument("--v2", action="store_true", help="ask the Open Inference Protocol")


def _health(client: Client, arguments: Namespace) -> Answer:
    check = arguments.check
    if arguments.v2 and check == "all":
        check = "ready"
    path = ("/v2" if arguments.v2 else "") + "/health" + ("" if check == "all" else f"/{check}")
    reply = client.call("GET", path, accept=_NOT_READY | {400})
    document = reply.document() if reply.body else {}
    good = reply.status == 200 and (check != "all" or bool(document.get("ready")))
    word = {"all": "ready", "ready": "ready", "live": "live"}[check]
    lines = [word if good else f"not {word}", *_reasons(document)]
    exit_code = ExitCode.OK if good else ExitCode.CHECK_FAILED
    return Answer(document={word: good, **document}, text="\n".join(lines), exit_code=exit_code)


def _reasons(document: dict[str, Any]) -> list[str]:
    checks = document.get("checks", document)
    if not isinstance(checks, dict):
        return []
    reasons = [f"  {reason}" for reason in checks.get("reasons", [])]
    return reasons + [f"  degraded: {reason}" for reason in checks.get("degraded", [])]


def _info_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--of",
        choices=tuple(_INFO_PATHS),
        default="api",
        help="native API, gateway or protocol (default api)",
    )


def _info(client: Client, arguments: Namespace) -> Answer:
    document = client.ask("GET", _INFO_PATHS[arguments.of])
    lines = [f"{name}: {short(value)}" for name, value in document.items() if not isinstance(value, dict)]
    lines += [f"you: {name}: {short(value)}" for name, value in document.get("principal", {}).items()]
    return Answer(document=document, text="\n".join(lines))


def _openapi_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--page", action="store_true", help="print the reference page, which is HTML")


def _openapi(client: Client, arguments: Namespace) -> Answer:
    if arguments.page:
        page = client.call("GET", "/docs", headers={"accept": "text/html"}).body.decode("utf-8", "replace")
        return Answer(document={"page": page}, text=page)
    document = client.ask("GET", "/openapi.json")
    rows = [
        [method.upper(), path, operation.get("summary") or ""]
        for path, operations in document.get("paths", {}).items()
        for method, operation in operations.items()
        if isinstance(operation, dict)
    ]
    return Answer(document=document, text=table(rows, ["method", "path", "does"]))


def _metrics(client: Client, arguments: Namespace) -> Answer:
    text = client.call("GET", "/metrics", headers={"accept": "text/plain"}).body.decode("utf-8", "replace")
    series = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name and not line.startswith("#"):
            series[name] = value
    return Answer(document={"series": series}, text=text.rstrip("\n"))


def _workers(client: Client, arguments: Namespace) -> Answer:
    document = client.ask("GET", "/api/v1/workers")
    names = ["name", "generation", "pid", "state", "queued", "running", "steps", "memory_bytes", "versions"]
    names.append("log_trouble")
    rows = [[short(worker.get(name)) for name in names] for worker in document["workers"]]
    return Answer(document=document, text=table(rows, names))


def _output_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("worker", metavar="NAME", help="such as w0")


def _output(client: Client, arguments: Namespace) -> Answer:
    from plumbline.product.client.transport import place

    document = client.ask("GET", place("api", "v1", "workers", arguments.worker, "output"))
    printed = "".join(c for c in document["output"] if c.isprintable() or c in "\n\t").rstrip("\n")
    return Answer(document=document, text=printed or f"{document['name']} printed nothing")


def _timeline_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--last", type=parse_count, default=50, metavar="N", help="launches (default 50)")


def _timeline(client: Client, arguments: Namespace) -> Answer:
    document = client.ask("GET", "/api/v1/timeline", query={"last": arguments.last})
    launches = document["launches"]
    zero = min((launch["began_ns"] for launch in launches), default=0)
    rows = [
        [
            launch["worker"],
            launch["stream"],
            launch["model"],
            f"{(launch['began_ns'] - zero) / 1e6:.3f}",
            ""
            if launch.get("ended_ns") is None
            else f"{(launch['ended_ns'] - launch['began_ns']) / 1e3:.1f}",
            short(launch["requests"]),
        ]
        for launch in launches
    ]
    headings = ["worker", "stream", "model", "began ms", "took us", "requests"]
    return Answer(document=document, text=table(rows, headings))


def _trace_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", metavar="MODEL", help="of this model instead of all")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", type=parse_assignment,
        help="trace_level, trace_rate or trace_count; the value `default` takes one back",
    )  # fmt: skip


def _trace_setting(client: Client, arguments: Namespace) -> Answer:
    from plumbline.product.client.transport import place

    named = place("v2", "models", arguments.model) if arguments.model else "/v2"
    path = f"{named}/trace/setting"
    if arguments.set:
        changes = {name: _trace_value(name, value) for name, value in arguments.set}
        document = client.ask("POST", path, document=changes)
    else:
        document = client.ask("GET", path)
    lines = [f"{name}: {short(value)}" for name, value in document.items()]
    return Answer(document=document, text="\n".join(lines))


def _trace_value(name: str, value: str) -> Any:
    if value == "default":
        return None
    return [value] if name == "trace_level" else value


HEALTH = ServerCommand(run=_health, arguments=_health_arguments)
INFO = ServerCommand(run=_info, arguments=_info_arguments)
OPENAPI = ServerCommand(run=_openapi, arguments=_openapi_arguments)
METRICS = ServerCommand(run=_metrics)
OUTPUT = ServerCommand(run=_output, arguments=_output_arguments)
WORKERS = ServerCommand(run=_workers)
TIMELINE = ServerCommand(run=_timeline, arguments=_timeline_arguments)
TRACE_SETTING = ServerCommand(run=_trace_setting, arguments=_trace_arguments)
