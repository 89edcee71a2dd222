"""`plumb doctor`: every thing that the lowest layer owns, and whether it is enough (L0-01)."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from plumbline.product.cli.answer import Answer, table
from plumbline.product.cli.arguments import add_document_file
from plumbline.product.cli.exit_codes import ExitCode


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb doctor`."""
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """Examine the machine; exit code 1 where something is a problem."""
    from plumbline.config.settings import read_settings
    from plumbline.hardware.discovery import find_devices
    from plumbline.hardware.doctor import examine_host

    report = examine_host(find_devices(), read_settings().cache_dir)
    rows = [[f.name, f.verdict.value, f.summary] for f in report.findings]
    return Answer(
        document=report.to_dict(),
        text=table(rows, ["examined", "verdict", "summary"]),
        exit_code=ExitCode.OK if report.is_healthy else ExitCode.CHECK_FAILED,
    )
