"""Files that show what happened: a picture of the memory plan and a trace of one run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plumbline.compiler.build import plan_graph
from plumbline.compiler.planning.picture import render_svg
from plumbline.config.settings import read_settings
from plumbline.engine.encoder import TextEncoder
from plumbline.product.compose import LoadOptions, build_options, read_graph
from plumbline.product.trace import trace_points, trace_run
from plumbline.telemetry.sinks import JsonLinesSink
from plumbline.telemetry.trace import verify_trace

__all__ = ["DemoFiles", "write_evidence"]

TRACED_TEXT = "A plumb line hangs through every floor of a building and shows what is true."


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoFiles:
    """Where the picture and the trace were written."""

    plan_picture: Path
    trace: Path


def write_evidence(model: TextEncoder, folder: Path, options: LoadOptions, output: Path) -> DemoFiles:
    """Draw the plan and trace one run of one text.

    Args:
        model: loaded from `folder` with `options`.
        folder: of the model.
        options: as loaded.
        output: folder for the files, made when absent.

    Raises:
        TracePlanMismatch: the folder does not give the plan that runs.
    """
    output.mkdir(parents=True, exist_ok=True)
    _, _, plan = plan_graph(read_graph(folder, options), build_options(options, read_settings()))
    steps = {index: step.name for index, step in enumerate(plan.steps)}
    picture = output / "memory-plan.svg"
    title = f"Memory plan of {plan.program.name}"
    picture.write_text(render_svg(plan.allocation, title=title, steps=steps), encoding="utf-8")
    points = trace_points(trace_run(model, model.inputs_of(model.tokenize([TRACED_TEXT]).rows)), model, plan)
    verify_trace(points)
    trace = output / "trace.jsonl"
    with JsonLinesSink(trace) as sink:
        for point in points:
            sink.emit(point)
    return DemoFiles(plan_picture=picture, trace=trace)
