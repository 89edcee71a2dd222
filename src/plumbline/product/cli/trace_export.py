"""`plumb trace export --perfetto FILE`: a trace for a viewer."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from plumbline.product.cli.answer import Answer, write_text
from plumbline.product.cli.arguments import add_output_file


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb trace export`."""
    parser.add_argument("--perfetto", metavar="FILE", required=True, help="the trace, JSON lines")
    add_output_file(parser, "the converted trace (default: FILE with .perfetto.json)")


def execute(arguments: Namespace) -> Answer:
    """Convert."""
    from plumbline.product.cli.trace_file import read_points
    from plumbline.telemetry.perfetto import to_perfetto

    points = read_points(arguments.perfetto)
    exported = to_perfetto(points)
    target = arguments.out or str(Path(arguments.perfetto).with_suffix(".perfetto.json"))
    write_text(target, json.dumps(exported, separators=(",", ":")) + "\n")
    document = {
        "schema_version": 1,
        "written": target,
        "points": len(points),
        "events": len(exported["traceEvents"]),
    }
    return Answer(document=document, text=f"{target}: {len(points)} points; open it in the Perfetto viewer")
