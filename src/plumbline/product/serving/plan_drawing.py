"""Draw the plans of a prepared version into files, small enough for a browser. Runs where versions are
prepared, apart from the server.

    N.svg    the picture of the N-th plan
    N.json   the same plan as a document

The plan is the one beside the executable. For an executable that lost it, it is planned again, without a
compilation; a plan that is not the one of the executable is refused, not drawn.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

import msgspec

from plumbline.compiler.planning.memory import AllocationPlan
from plumbline.compiler.planning.picture import placement_facts, plan_figures, render_svg
from plumbline.compiler.planning.picture_thinning import thin_out
from plumbline.compiler.planning.picture_words import clipped
from plumbline.compiler.planning.plan_file import PlanFileRefused, read_plan, verify_same_plan, write_plan
from plumbline.config.settings import read_settings
from plumbline.contracts.models import VersionKind
from plumbline.contracts.versions import VersionSpec
from plumbline.errors import PlumblineError
from plumbline.execution.artifact import Manifest, read_manifest
from plumbline.product.compose import build_options, read_graph
from plumbline.product.serving.drawn_plans import DrawnPlan, DrawnPlans, UndrawnPlan
from plumbline.product.sessions import PreparedModel, prepared_models

__all__ = ["MAX_LISTED", "SERVED_BOXES", "draw_plans", "find_plan"]

SERVED_BOXES = 1_000
"""Buffers that a served picture draws one by one: about a quarter of a megabyte."""
MAX_LISTED = 2_000
"""Buffers that the documents of a version list, all its stages together."""


def draw_plans(spec: VersionSpec, folder: Path) -> DrawnPlans:
    """Draw every plan of a prepared version; a stage that occurs twice is drawn once.

    Args:
        spec: of the version.
        folder: receives the files.

    Raises:
        CompileWhileServing: it is not prepared.
    """
    models = {str(model.part.ref): model for model in prepared_models(spec)}
    most_listed = MAX_LISTED // max(1, len(models))
    plans: list[DrawnPlan] = []
    missing: list[UndrawnPlan] = []
    for number, (stage, model) in enumerate(models.items()):
        try:
            plans.append(_draw(model, stage, folder / str(number), most_listed))
        except PlumblineError as error:
            missing.append(UndrawnPlan(stage=stage, reason=error.message))
        except OSError as error:
            missing.append(UndrawnPlan(stage=stage, reason=(error.strerror or "not written").lower()))
    return DrawnPlans(plans=tuple(plans), missing=tuple(missing), unplanned=_unplanned(spec))


def find_plan(model: PreparedModel, manifest: Manifest) -> AllocationPlan:
    """The plan that an executable was made with.

    Raises:
        PlanFileRefused: it is lost, and planning again gives another.
        PlumblineError: the model file cannot be read again.
    """
    try:
        return read_plan(model.folder, manifest.plan)
    except PlanFileRefused:
        from plumbline.compiler.build import plan_graph

        graph = read_graph(model.source, model.options)
        _, _, planned = plan_graph(graph, build_options(model.options, read_settings()))
        verify_same_plan(model.folder, planned.allocation, manifest.plan)
        with contextlib.suppress(OSError):  # the next one plans again
            write_plan(model.folder, planned.allocation)
        return planned.allocation


def _draw(model: PreparedModel, stage: str, file: Path, most_listed: int) -> DrawnPlan:
    manifest = read_manifest(model.folder)
    plan = find_plan(model, manifest)
    title, steps = f"Memory plan of {stage}", dict(enumerate(manifest.step_names))
    svg = render_svg(plan, title=title, steps=steps, most_boxes=SERVED_BOXES).encode()
    document = _document(plan, manifest, model.part, most_listed)
    file.with_suffix(".svg").write_bytes(svg)
    file.with_suffix(".json").write_bytes(msgspec.json.encode(document))
    return DrawnPlan(stage=stage, file=file.name, digest=hashlib.sha256(svg).hexdigest())


def _document(plan: AllocationPlan, manifest: Manifest, part: VersionSpec, most: int) -> dict[str, Any]:
    """Schema `PlanDocument`."""
    listed, _ = thin_out(plan.placements, most)
    arenas = part.settings.instances
    return {
        "stage": str(part.ref),
        **plan_figures(plan),
        "weights_bytes": manifest.plan.weights_bytes,
        "state_bytes": manifest.plan.state_bytes,
        "arenas": arenas,
        "total_bytes": manifest.plan.total_bytes(arenas),
        "steps": len(manifest.step_names),
        "buffers_total": len(plan.placements),
        "buffers": [
            {**placement_facts(p), "name": clipped(p.name).encode("utf-8", "replace").decode()}
            for p in sorted(listed, key=lambda p: (p.first, p.offset_bytes))
        ],
    }


def _unplanned(spec: VersionSpec) -> tuple[UndrawnPlan, ...]:
    stages = [] if spec.kind is VersionKind.PIPELINE else [spec]
    waiting = list(spec.stages)
    while waiting:
        stage = waiting.pop(0)
        stages += [] if stage.kind is VersionKind.PIPELINE else [stage]
        waiting[:0] = stage.stages
    names = dict.fromkeys(str(stage.ref) for stage in stages if stage.kind is VersionKind.PYTHON)
    return tuple(UndrawnPlan(stage=name, reason="a Python class has no memory plan") for name in names)
