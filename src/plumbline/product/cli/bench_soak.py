"""`plumb bench soak`: a server under steady load; passes when memory, handles and logs stay flat."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from plumbline.product.cli.answer import Answer
from plumbline.product.cli.arguments import add_document_file
from plumbline.product.cli.exit_codes import ExitCode


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb bench soak`."""
    add = parser.add_argument
    add("--minutes", type=float, default=30.0, metavar="N", help="of load (default 30)")
    add("--rate", type=float, default=100.0, metavar="N", help="null requests per second (default 100)")
    add("--sample", type=float, default=5.0, metavar="S", help="seconds between samples (default 5)")
    add("--rss-slope", type=float, default=128.0, metavar="KIB", help="most growth a minute (default 128)")
    add("--disk", type=int, default=96, metavar="MIB", help="most bytes of logs and store (default 96)")
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """Load and look; exit code 1 when something grew."""
    import sys
    import tempfile
    from pathlib import Path

    from plumbline.product.bench.serving.soak import SoakLimits, run_soak
    from plumbline.product.bench.suite import commit_of_checkout, machine_facts

    limits = SoakLimits(
        rss_bytes_per_minute=arguments.rss_slope * 1024, disk_bytes=arguments.disk * (1 << 20)
    )
    with tempfile.TemporaryDirectory(prefix="plumb-soak-") as folder:
        found = run_soak(
            Path(folder), minutes=arguments.minutes, rate=arguments.rate, sample_s=arguments.sample,
            limits=limits, progress=lambda line: print(line, file=sys.stderr, flush=True),
        )  # fmt: skip
    document = {"schema_version": 1, "machine": machine_facts(), "commit": commit_of_checkout(), **found}
    lines = [f"{found['requests']} requests in {arguments.minutes:g} minutes, {found['errors']} errors"]
    for name, slopes in found["slopes"].items():
        kib = slopes["rss_bytes"] / 1024
        lines.append(f"{name}: {kib:+.1f} KiB, {slopes['handles']:+.3f} handles a minute")
    lines.append("flat" if found["passed"] else "not flat: " + "; ".join(found["flaws"]))
    code = ExitCode.OK if found["passed"] else ExitCode.CHECK_FAILED
    return Answer(document=document, text="\n".join(lines), exit_code=code)
