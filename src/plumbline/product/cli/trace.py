"""`plumb trace MODEL`: one run with every point written down."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path
from typing import Any

from plumbline.product.cli.answer import Answer, OutputUnwritable, table
from plumbline.product.cli.arguments import (
    add_model,
    add_output_file,
    load_options,
    parse_assignment,
    read_array,
)


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb trace`."""
    add_model(parser)
    add = parser.add_argument
    add(
        "--input",
        action="append",
        default=[],
        metavar="NAME=F.npy",
        type=parse_assignment,
        help="an input array",
    )
    add_output_file(parser, "the trace, JSON lines (default trace.jsonl)")
    parser.set_defaults(out="trace.jsonl")


def execute(arguments: Namespace) -> Answer:
    """Run once plainly, then once traced; write the points of the second run and check them."""
    from plumbline.product.cli.arrays import generate_inputs
    from plumbline.product.cli.decisions import plan_model
    from plumbline.product.cli.loading import load_model
    from plumbline.product.trace import trace_points, trace_run
    from plumbline.telemetry.trace import verify_trace

    given = {name: read_array(file) for name, file in arguments.input}
    options = load_options(arguments)
    plan = plan_model(arguments.model, options).plan
    with load_model(arguments.model, options) as model:
        inputs = generate_inputs(model, given, 0)
        model.run(inputs)
        run = trace_run(model, inputs)
        points = trace_points(run, model, plan)
        steps, name = len(model.manifest.step_names), model.name
    verify_trace(points)
    write_points(Path(arguments.out), points)
    counted = Counter(point.event for point in points)
    document = {
        "schema_version": 1,
        "name": name,
        "trace": arguments.out,
        "steps": steps,
        "latency_ns": run.ended_ns - run.began_ns,
        "points": dict(sorted(counted.items())),
        "slowest": slowest(run, plan.program.steps),
    }
    return Answer(document=document, text=_text(document))


def write_points(path: Path, points: list[Any]) -> None:
    """Write JSON lines.

    Raises:
        OutputUnwritable: the file cannot be written.
    """
    from plumbline.telemetry.sinks import JsonLinesSink

    try:
        with JsonLinesSink(path) as sink:
            for point in points:
                sink.emit(point)
    except OSError as error:
        raise OutputUnwritable(file=path.name, reason=(error.strerror or "unknown").lower()) from error


def slowest(run: Any, steps: Any, count: int = 10) -> list[dict[str, Any]]:
    """The steps that took most processor time."""
    spent: Counter[int] = Counter()
    for launch in run.launches:
        spent[launch.step] += launch.end_ns - launch.begin_ns
    return [
        {"step": steps[index].name, "operation": steps[index].operation, "spent_ns": total}
        for index, total in spent.most_common(count)
    ]


def _text(document: dict[str, Any]) -> str:
    rows = [[s["step"], s["operation"], s["spent_ns"] / 1000] for s in document["slowest"]]
    points = ", ".join(f"{count} {event}" for event, count in document["points"].items())
    return "\n".join(
        [
            table(rows, ["slowest steps", "operation", "us"]),
            "",
            f"{document['name']}: {document['steps']} steps in {document['latency_ns'] / 1e6:.4f} ms",
            f"{document['trace']}: {points}",
        ]
    )
