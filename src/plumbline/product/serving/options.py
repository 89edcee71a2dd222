"""What the operator of a server decides."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

__all__ = ["ServeOptions", "WorkerOptions"]


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker process is told on its command line.

    Attributes:
        policy: name of the scheduling policy.
        streams: launches that may go on at once.
        capacity: most requests accepted and not launched.
        budget_bytes: most bytes that all versions of a worker may plan together; 0 for no limit, None for
            seven eighths of the memory of this machine or container.
        log_segment_bytes: size of one segment of the decision log, of which `log_segments` are kept.
        best_effort_segment_ns: longest piece of work without a promise; with it, requests with a deadline
            on a calibrated version are promised or refused (edf and rate_monotonic only).
        trace: file for trace points as JSON lines, in the log folder; off by default.
        allow_code: Python classes of the repository may run.
    """

    policy: str = "earliest_deadline_first"
    streams: int = 1
    capacity: int = 1024
    budget_bytes: int | None = None
    log_segment_bytes: int = 1 << 20
    log_segments: int = 16
    best_effort_segment_ns: int | None = None
    trace: bool = False
    allow_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Attributes:
    repository: folder with models, or the address of a repository served over HTTP.
    state: private folder of this server: store, copies, decision logs.
    host, port, grpc_port: where to listen; port 0 takes a free one, grpc_port None serves no gRPC.
    workers: how many to start with and the least; max_workers: the most that load may bring.
    worker: what each worker is told.
    class_memory_bytes: most private memory of a worker outside of the group of the models; 0 for no limit,
        None for half of the memory of this machine or container.
    in_process: run the engine inside the gateway process instead of in workers.
    database: SQLAlchemy URL of the store; None for SQLite in `state`.
    require_keys: ask for an API key on loopback too; other addresses always ask.
    models: names to load at start; None for all.
    allowed_origins, allowed_hosts: see `GatewayOptions`.
    server: `uvicorn` or `granian`.
    max_body_bytes: most bytes of one request body, over REST and gRPC.
    drain_timeout_s: for requests in flight at the end.
    otlp_endpoint: where OpenTelemetry spans go over HTTP; None for nowhere.
    metrics_exporters: `module:Class` of each further exporter of metrics; metrics_interval_s: between two
        snapshots for them.
    log_format: of the server's log, `text` or `json`.
    slow_s: a request that takes longer has a line in the log.
    benchmark: id of the benchmark that this run serves; metrics, spans and the exported run carry it.
    """

    repository: str
    state: Path
    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = 8001
    workers: int = 1
    max_workers: int = 1
    worker: WorkerOptions = field(default_factory=WorkerOptions)
    class_memory_bytes: int | None = None
    in_process: bool = False
    database: str | None = None
    require_keys: bool = False
    models: tuple[str, ...] | None = None
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    server: str = "uvicorn"
    max_body_bytes: int = 64 << 20
    drain_timeout_s: float = 30.0
    otlp_endpoint: str | None = None
    metrics_exporters: tuple[str, ...] = ()
    metrics_interval_s: float = 10.0
    log_format: str = "text"
    slow_s: float = 1.0
    benchmark: str = ""
