"""`plumb plan`: the exact bytes of a model, before a weight is read."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plumbline.product.cli.answer import Answer, table, write_text
from plumbline.product.cli.arguments import add_document_file, add_model, load_options

if TYPE_CHECKING:
    from plumbline.execution.artifact import Manifest


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb plan`."""
    add_model(parser)
    parser.add_argument("--svg", metavar="FILE", help="draw time against address")
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """Plan; refuses a plan above `--memory-budget`."""
    from plumbline.compiler.planning.picture import plan_document, render_svg
    from plumbline.product.cli.decisions import batching_of, is_compiled, plan_model

    if is_compiled(arguments.model):
        return _plan_of_compiled(arguments)
    options = load_options(arguments)
    decided = plan_model(arguments.model, options)
    plan, program = decided.plan.allocation, decided.plan.program
    steps = {index: step.name for index, step in enumerate(decided.plan.steps)}
    document = plan_document(
        plan,
        weights_bytes=program.weights_bytes,
        state_bytes=program.state_bytes,
        contexts=options.contexts,
        steps=steps,
    )
    facts = {"name": program.name, "graph_digest": decided.graph_digest}
    document = {**facts, **document, "batching": batching_of(decided.rows)}
    if arguments.svg is not None:
        write_text(arguments.svg, render_svg(plan, title=f"Memory plan of {program.name}", steps=steps))
    return Answer(document=document, text=_text(document))


def _plan_of_compiled(arguments: Namespace) -> Answer:
    """The bytes that a compiled folder promises, drawn from the plan beside them where that is wanted."""
    from plumbline.execution.artifact import read_manifest
    from plumbline.product.cli.decisions import batching_of, batching_text

    manifest = read_manifest(Path(arguments.model))
    plan = manifest.plan
    document = {
        "name": manifest.name,
        "graph_digest": manifest.digest,
        "digest": plan.digest,
        "weights_bytes": plan.weights_bytes,
        "state_bytes": plan.state_bytes,
        "peak_bytes": plan.peak_bytes,
        "lower_bound_bytes": plan.lower_bound_bytes,
        "contexts": arguments.contexts,
        "total_bytes": plan.total_bytes(arguments.contexts),
        "batching": batching_of(manifest),
    }
    if arguments.svg is not None:
        _draw_compiled(Path(arguments.model), manifest, arguments.svg)
    rows = [
        [name.removesuffix("_bytes"), value] for name, value in document.items() if name.endswith("_bytes")
    ]
    text = f"{table(rows, [manifest.name, 'bytes'])}\n\n{batching_text(batching_of(manifest))}"
    return Answer(document=document, text=text)


def _draw_compiled(folder: Path, manifest: Manifest, file: str) -> None:
    """Raises PlanFileRefused: the folder holds no plan, or not that of its code."""
    from plumbline.compiler.planning.picture import render_svg
    from plumbline.compiler.planning.plan_file import read_plan

    title, steps = f"Memory plan of {manifest.name}", dict(enumerate(manifest.step_names))
    write_text(file, render_svg(read_plan(folder, manifest.plan), title=title, steps=steps))


def _text(document: dict[str, Any]) -> str:
    names = ("weights_bytes", "state_bytes", "peak_bytes", "lower_bound_bytes", "naive_bytes", "total_bytes")
    rows: list[list[object]] = [[name.removesuffix("_bytes"), document[name]] for name in names]
    total = f"total = weights + state + {document['contexts']} x peak"
    facts = (
        f"plan {document['digest']}, {len(document['tensors'])} buffers, reuse {document['reuse_percent']} %"
    )
    from plumbline.product.cli.decisions import batching_text

    heading = [document["name"] or "model", "bytes"]
    return "\n".join([table(rows, heading), "", total, facts, batching_text(document["batching"])])
