"""`plumb serve`: models of a repository over REST, gRPC, the native API and WebSocket."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plumbline.product.cli.answer import Answer
from plumbline.product.cli.arguments import parse_count

if TYPE_CHECKING:
    from plumbline.product.serving.options import ServeOptions


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb serve`."""
    add = parser.add_argument
    add(
        "--models", metavar="DIR", default="models",
        help="model repository: a folder, or the address of one served over HTTP (default: models)",
    )  # fmt: skip
    add("--load", metavar="A,B", help="load only these models at start (default: all)")
    add("--host", default="127.0.0.1", help="address to bind (default: loopback)")
    add("--port", type=int, default=8000, help="of REST and WebSocket; 0 takes a free one")
    add("--grpc-port", type=int, default=8001, help="0 takes a free one, -1 serves no gRPC")
    add("--workers", type=parse_count, default=1, help="worker processes, the least when they scale")
    add("--max-workers", type=parse_count, help="most worker processes under load")
    add("--in-process", action="store_true", help="run the engine inside this process")
    add("--policy", default="earliest_deadline_first", help="scheduling policy by name")
    add("--streams", type=parse_count, default=1, help="launches that go on at once in a worker")
    add("--queue", type=parse_count, default=1024, help="most requests waiting in a worker")
    add(
        "--promise-deadlines", type=parse_count, metavar="US",
        help="promise or refuse deadlines of calibrated versions; work without a promise has no piece longer "
        "than this many microseconds",
    )  # fmt: skip
    add(
        "--memory-budget", type=_size, metavar="BYTES",
        help="most that all models of a worker may plan; 0 for no limit (default: 7/8 of the machine's)",
    )  # fmt: skip
    add(
        "--class-memory", type=_size, metavar="BYTES",
        help="most memory of a worker for Python classes; 0 for no limit (default: half of the machine's)",
    )  # fmt: skip
    add("--state", metavar="DIR", help="private folder for store and logs")
    add("--database", metavar="URL", help="store of tasks and keys (default: SQLite in --state)")
    add("--require-keys", action="store_true", help="ask for an API key on loopback too")
    add("--no-code", action="store_true", help="refuse Python classes of the repository")
    add("--allow-origin", action="append", default=[], metavar="ORIGIN", help="for browsers")
    add("--allow-host", action="append", default=[], metavar="HOST", help="name behind a proxy")
    add("--server", choices=("uvicorn", "granian"), default="uvicorn", help="HTTP server (default uvicorn)")
    add(
        "--max-body",
        type=parse_count,
        default=64 << 20,
        metavar="BYTES",
        help="of a request (default: 64 MiB)",
    )
    add("--drain-timeout", type=_positive, default=30.0, metavar="S", help="for requests in flight")
    add("--otlp", metavar="URL", help="send OpenTelemetry spans there, over HTTP")
    add("--trace", action="store_true", help="write trace points of the engines as JSON lines")
    add(
        "--metrics-exporter", action="append", default=[], metavar="MODULE:CLASS",
        help="give metrics to this class as well",
    )  # fmt: skip
    add("--metrics-interval", type=_positive, default=10.0, metavar="S", help="between two exports")
    add("--log-format", choices=("text", "json"), default="text", help="of the log on standard error")
    add("--slow", type=_positive, default=1.0, metavar="S", help="log requests that take longer")
    add("--benchmark", type=_label, metavar="ID", help="id that metrics and spans carry")


def execute(arguments: Namespace) -> Answer:
    """Serve until told to stop."""
    from plumbline.config.libraries import set_library_settings

    set_library_settings()  # before gRPC loads
    from plumbline.product.cli.start_report import start_lines
    from plumbline.product.serving.loop import run
    from plumbline.product.serving.server import run_server

    options = serve_options(arguments)

    as_json = options.log_format == "json"

    def opened(listening: Any, runtime: Any) -> None:
        base = f"http://{listening.host}:{listening.port}"
        grpc = "no gRPC" if listening.grpc_port is None else f"gRPC {listening.host}:{listening.grpc_port}"
        said = f"listening on {base} ({grpc}); loading models"
        if as_json:
            runtime.observation.log.write("server.listening", message=said)
        else:
            _say(said)

    def ready(runtime: Any) -> None:
        is_ready, facts = runtime.health.readiness()
        if as_json:
            word = "server.ready" if is_ready else "server.not_ready"
            runtime.observation.log.write(word, reasons="; ".join(facts["reasons"]))
            return
        for line in start_lines(runtime.directory.statuses(), is_ready, facts["reasons"]):
            _say(line)

    unfinished = run(run_server(options, on_listening=opened, on_ready=ready))
    return Answer(document={"unfinished": unfinished}, text=f"stopped; {unfinished} requests unfinished")


def serve_options(arguments: Namespace) -> ServeOptions:
    """What the arguments ask for.

    Raises:
        SettingRefused: the state folder cannot be found out.
        CommandLineRefused: `--models` is no folder that can be read.
    """
    from plumbline.config.settings import read_settings
    from plumbline.product.serving.options import ServeOptions, WorkerOptions

    remote = arguments.models.startswith(("http://", "https://"))
    if not remote:
        _verify_models(arguments.models)
    worker = WorkerOptions(
        policy=arguments.policy,
        streams=arguments.streams,
        capacity=arguments.queue,
        budget_bytes=arguments.memory_budget,
        best_effort_segment_ns=None
        if arguments.promise_deadlines is None
        else arguments.promise_deadlines * 1000,
        trace=arguments.trace,
        allow_code=not (remote or arguments.no_code),
    )
    return ServeOptions(
        repository=arguments.models,
        state=Path(arguments.state) if arguments.state else read_settings().state_dir,
        host=arguments.host,
        port=arguments.port,
        grpc_port=None if arguments.grpc_port < 0 else arguments.grpc_port,
        workers=arguments.workers,
        max_workers=arguments.max_workers or arguments.workers,
        worker=worker,
        class_memory_bytes=arguments.class_memory,
        in_process=arguments.in_process,
        database=arguments.database,
        require_keys=arguments.require_keys,
        models=tuple(arguments.load.split(",")) if arguments.load else None,
        allowed_origins=tuple(arguments.allow_origin),
        allowed_hosts=tuple(arguments.allow_host),
        server=arguments.server,
        max_body_bytes=arguments.max_body,
        drain_timeout_s=arguments.drain_timeout,
        otlp_endpoint=arguments.otlp,
        metrics_exporters=tuple(arguments.metrics_exporter),
        metrics_interval_s=arguments.metrics_interval,
        log_format=arguments.log_format,
        slow_s=arguments.slow,
        benchmark=arguments.benchmark or "",
    )


def _verify_models(folder: str) -> None:
    """Said in the operator's own words, before anything is started."""
    from plumbline.product.cli.entry import CommandLineRefused
    from plumbline.serving.repository.folder import verify_folder
    from plumbline.serving.repository.refusals import RepositoryFolderRefused

    try:
        verify_folder(Path(folder))
    except RepositoryFolderRefused as error:
        reason = f"argument --models: {folder}: {error.reason}"
        raise CommandLineRefused(command="plumb serve", reason=reason) from error


def _size(text: str) -> int:
    """A whole number from 0 on."""
    value = int(text)
    if value < 0:
        raise ValueError("less than 0")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0.0 < value < 1e6:
        raise ValueError
    return value


def _label(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise ValueError
    return text


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")  # at once: the log writes beside it
    sys.stderr.flush()
