"""What the compiler decided about a model: rewrites, memory aliases, order and partition, with reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plumbline.compiler.build import plan_graph
from plumbline.compiler.passes.report import PassReport
from plumbline.compiler.planning.alias import Decision, InPlace, PlacedIn
from plumbline.compiler.planning.program import ProgramPlan
from plumbline.compiler.rows import RowProof, prove_rows
from plumbline.config.settings import read_settings
from plumbline.errors import ValidationError
from plumbline.execution.artifact import Manifest
from plumbline.product.cli.answer import table
from plumbline.product.compose import LoadOptions, build_options, read_graph

__all__ = [
    "ModelFileNeeded",
    "PlannedModel",
    "batching_of",
    "batching_text",
    "decide",
    "decisions_text",
    "is_compiled",
    "plan_model",
]

SHOWN_STEPS = 400


@dataclass(eq=False, kw_only=True)
class ModelFileNeeded(ValidationError):
    """What was asked for is decided from the model file; a compiled folder no longer holds it."""

    code = "validation.model_file_needed"
    owner = "product"
    template = "{source!r} is compiled; give the model file for {wanted}"

    source: str
    wanted: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedModel:
    """A model with its passes and plan; no weight above the small-constant limit was read."""

    graph_digest: str
    nodes_read: int
    passes: PassReport
    plan: ProgramPlan
    rows: RowProof


def plan_model(source: str, options: LoadOptions) -> PlannedModel:
    """Import, rewrite and plan.

    Raises:
        ModelFileNeeded: `source` is a compiled folder.
        PlumblineError: as `plumbline.load`, the memory budget included.
    """
    if is_compiled(source):
        raise ModelFileNeeded(source=Path(source).name, wanted="its plan and decisions in detail")
    graph = read_graph(source, options)
    optimised, passes, plan = plan_graph(graph, build_options(options, read_settings()))
    return PlannedModel(
        graph_digest=graph.digest, nodes_read=len(graph.nodes), passes=passes, plan=plan,
        rows=prove_rows(optimised),
    )  # fmt: skip


def batching_of(facts: RowProof | Manifest) -> dict[str, str]:
    """Along which symbols requests share a launch, or why they do not."""
    if isinstance(facts, RowProof):
        return {"symbol": facts.symbol, "packed": facts.packed, "unbatched_because": facts.refused_because}
    return {
        "symbol": facts.batch_symbol,
        "packed": facts.packed_symbol,
        "unbatched_because": facts.unbatched_because,
    }


def batching_text(document: Mapping[str, str]) -> str:
    """The same for people.

    >>> batching_text({"symbol": "N", "packed": "", "unbatched_because": ""})
    'batched along N'
    """
    if not document["symbol"]:
        return f"unbatched because {document['unbatched_because']}"
    packed = f", packed along {document['packed']}" if document["packed"] else ""
    return f"batched along {document['symbol']}{packed}"


def is_compiled(source: str) -> bool:
    """Whether this is a compiled folder."""
    return (Path(source) / "manifest.json").is_file()


def decide(source: str, options: LoadOptions) -> dict[str, Any]:
    """Every decision about a model as plain data."""
    planned = plan_model(source, options)
    program = planned.plan.program
    return {
        "nodes_read": planned.nodes_read,
        "rewrites": [
            {"pass": r.pass_name, "kind": r.kind, "subject": r.subject, "detail": r.detail}
            for r in planned.passes.rewrites
        ],
        "aliases": [_alias(decision) for decision in planned.plan.assignment.decisions],
        "live_before_bytes": planned.plan.assignment.live_before_bytes,
        "live_after_bytes": planned.plan.assignment.live_after_bytes,
        "order": planned.plan.order_strategy,
        "placement": planned.plan.allocation.strategy,
        "partitions": [{"backend": "cpu", "steps": len(program.steps)}],
        "segments": list(program.segments),
        "steps": [
            {"name": s.name, "operation": s.operation, "outputs": [str(o.type) for o in s.outputs]}
            for s in program.steps
        ],
    }


def _alias(decision: Decision) -> dict[str, Any]:
    wish = decision.declaration
    kind = {InPlace: "in_place", PlacedIn: "placed_in"}.get(type(wish), "view")
    other = wish.operand if isinstance(wish, InPlace) else wish.base
    return {
        "kind": kind,
        "value": wish.value,
        "other": other,
        "accepted": decision.accepted,
        "reason": decision.reason,
    }


def decisions_text(document: dict[str, Any]) -> str:
    """The decisions for people."""
    rewrites = [[r["kind"], r["pass"], r["subject"], r["detail"]] for r in document["rewrites"]]
    aliases = [
        [a["kind"], "yes" if a["accepted"] else "no", a["value"], a["other"], a["reason"]]
        for a in document["aliases"]
        if a["kind"] != "view"
    ]
    steps = [[n, s["operation"], s["name"], ", ".join(s["outputs"])] for n, s in enumerate(document["steps"])]
    counted = (
        ", ".join(f"{kind} {count}" for kind, count in Counter(r[0] for r in rewrites).items()) or "none"
    )
    parts = [f"rewrites of {document['nodes_read']} nodes: {counted}"]
    if rewrites:
        parts.append(table(rewrites, ["kind", "pass", "subject", "detail"]))
    parts.append(
        f"buffers shared: live {document['live_before_bytes']} -> {document['live_after_bytes']} bytes"
    )
    if aliases:
        parts.append(table(aliases, ["wish", "granted", "value", "with", "reason"]))
    parts.append(
        f"order: {document['order']}; placement: {document['placement']}; "
        + "; ".join(f"{p['backend']} runs {p['steps']} steps" for p in document["partitions"])
    )
    if steps:
        parts.append(table(steps[:SHOWN_STEPS], ["step", "operation", "name", "outputs"]))
    if len(steps) > SHOWN_STEPS:
        parts.append(f"... {len(steps) - SHOWN_STEPS} more steps; --json lists all")
    return "\n\n".join(parts)
