"""`plumb bench mixed`: three models with deadlines and priorities on one stream, and policies compared."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from plumbline.product.cli.answer import Answer, table, write_text
from plumbline.product.cli.arguments import add_document_file
from plumbline.product.cli.exit_codes import ExitCode


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb bench mixed`."""
    add = parser.add_argument
    add("--seconds", type=float, default=60.0, metavar="N", help="of arrivals (default 60)")
    add("--utilisation", type=float, default=0.9, metavar="U", help="wanted, 0 to 1 (default 0.9)")
    add("--seed", type=int, default=1, metavar="N", help="of the arrivals (default 1)")
    add("--svg", metavar="FILE", help="draw the policies beside one another")
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """Run; exit code 1 when a promise was broken without a recorded cause."""
    import sys
    import tempfile
    from pathlib import Path

    from plumbline.product.bench.serving.mixed import run_mixed
    from plumbline.product.bench.suite import commit_of_checkout, machine_facts
    from plumbline.scheduling.comparison_picture import comparison_svg

    with tempfile.TemporaryDirectory(prefix="plumb-mixed-") as folder:
        found = run_mixed(
            Path(folder), seconds=arguments.seconds, utilisation=arguments.utilisation, seed=arguments.seed,
            progress=lambda line: print(line, file=sys.stderr, flush=True),
        )  # fmt: skip
    if arguments.svg:
        write_text(arguments.svg, comparison_svg(found.policies))
    facts = found.document
    document = {"schema_version": 1, "machine": machine_facts(), "commit": commit_of_checkout(), **facts}
    rows: list[list[object]] = [
        [r.policy, r.finished, f"{r.mean_latency_ns / 1e6:.3f}", f"{r.p99_latency_ns / 1e6:.3f}", r.missed]
        for r in found.policies
    ]
    lines = [
        f"{facts['requests']} requests, {facts['measured_utilisation']:.1%} of the stream's time",
        f"{facts['promised']} deadlines promised, {facts['promised_and_late']} of them late, "
        f"{facts['breaches_in_all']} breaches recorded, {len(facts['unexplained'])} without a cause",
        *(f"  {name}: {count}" for name, count in facts["outcomes"].items()),
        "",
        table(rows, ["policy", "finished", "mean ms", "p99 ms", "missed"]),
    ]
    code = ExitCode.CHECK_FAILED if facts["unexplained"] else ExitCode.OK
    return Answer(document=document, text="\n".join(lines), exit_code=code)
