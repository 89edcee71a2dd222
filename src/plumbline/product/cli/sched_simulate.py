"""`plumb sched simulate --policy A,B LOG`: a recorded load under other policies, in virtual time (L4-24)."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from plumbline.product.cli.answer import Answer, table, write_text
from plumbline.product.cli.arguments import add_document_file

if TYPE_CHECKING:
    from plumbline.scheduling.comparison import PolicyResult


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb sched simulate`."""
    parser.add_argument("log", metavar="LOG", help="the folder of decision logs, or the file of one segment")
    parser.add_argument(
        "--policy",
        default="fifo,priority,fair,edf",
        metavar="A,B",
        help="policies to compare, or module:Class (default fifo,priority,fair,edf)",
    )
    parser.add_argument("--name", metavar="NAME", help="only the log of this name")
    parser.add_argument("--svg", metavar="FILE", help="draw the comparison (of the first log)")
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """Simulate each policy on each log."""
    from plumbline.product.cli.decision_logs import find_logs
    from plumbline.scheduling.comparison import compare_policies
    from plumbline.scheduling.comparison_picture import comparison_svg
    from plumbline.scheduling.recorded_load import recorded_load

    names = [name.strip() for name in arguments.policy.split(",") if name.strip()]
    documents: list[dict[str, Any]] = []
    parts: list[str] = []
    for log in find_logs(arguments.log, arguments.name):
        load = recorded_load(log.records())
        results = compare_policies(load, names)
        if arguments.svg and not documents:
            write_text(arguments.svg, comparison_svg(results))
        documents.append(
            {
                "log": log.name,
                "recorded_policy": load.policy,
                "streams": list(load.streams),
                "policies": [result.to_dict() for result in results],
            }
        )
        parts.append(
            f"log {log.name}, recorded with {load.policy or 'no policy'} on {len(load.streams)} streams"
        )
        parts.append(_figures(results))
        parts.append(_tenants(results))
    return Answer(document={"schema_version": 1, "logs": documents}, text="\n\n".join(parts))


def _figures(results: list[PolicyResult]) -> str:
    rows: list[list[object]] = [
        [
            r.policy,
            r.finished,
            f"{r.mean_latency_ns / 1e6:.3f}",
            f"{r.p99_latency_ns / 1e6:.3f}",
            r.missed,
            r.expired,
            r.refused,
            r.launches,
        ]
        for r in results
    ]
    return table(
        rows, ["policy", "finished", "mean ms", "p99 ms", "missed", "expired", "refused", "launches"]
    )


def _tenants(results: list[PolicyResult]) -> str:
    rows: list[list[object]] = [
        [r.policy, t.tenant, t.requests, f"{t.mean_latency_ns / 1e6:.3f}", t.missed, f"{t.share:.1%}"]
        for r in results
        for t in r.tenants
    ]
    return table(rows, ["policy", "tenant", "requests", "mean ms", "missed", "share until last arrival"])
