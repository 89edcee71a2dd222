"""`plan.json` beside an executable: where every buffer lies, for those who ask after the build.

Nothing that runs reads it. What it says is held against the digest in the manifest, so that a plan which is
not the one that the code was made with is never shown.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plumbline.compiler.planning.memory import AllocationPlan, Placement
from plumbline.errors import ArtifactError
from plumbline.execution.artifact import PLAN_FILE, PlanSummary

__all__ = ["PlanFileRefused", "read_plan", "verify_same_plan", "write_plan"]

SCHEMA_VERSION = 1
MAX_PLAN_BYTES = 64 << 20
_MOST = (1 << 63) - 1
_NUMBERS = ("peak_bytes", "lower_bound_bytes", "lower_bound_step", "naive_bytes", "alignment_bytes")


@dataclass(eq=False, kw_only=True)
class PlanFileRefused(ArtifactError):
    """The plan beside a compiled artifact is missing, damaged, or of another build."""

    code = "artifact.plan"
    owner = "compiler.planning"
    template = "the plan of compiled artifact {artifact!r}: {reason}"

    artifact: str
    reason: str


def write_plan(folder: Path, plan: AllocationPlan) -> None:
    """Write `plan.json`; it appears whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    document = {
        "schema_version": SCHEMA_VERSION,
        "strategy": plan.strategy,
        **{name: getattr(plan, name) for name in _NUMBERS},
        "buffers": [[p.name, p.offset_bytes, p.size_bytes, p.first, p.last] for p in plan.placements],
    }
    descriptor, name = tempfile.mkstemp(prefix=".plan-", dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump(document, file, separators=(",", ":"))
        Path(name).replace(folder / PLAN_FILE)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def read_plan(folder: Path, promised: PlanSummary) -> AllocationPlan:
    """Read `plan.json` of an executable.

    Args:
        folder: of the executable.
        promised: what its manifest says of the plan.

    Raises:
        PlanFileRefused: missing, too large, damaged, or not the promised plan.
    """
    path = folder / PLAN_FILE
    try:
        if path.stat().st_size > MAX_PLAN_BYTES:
            raise PlanFileRefused(artifact=folder.name, reason="it is too large")
        plan = _decode(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise PlanFileRefused(artifact=folder.name, reason=f"there is no {PLAN_FILE}") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"it is damaged ({type(error).__name__})"
        raise PlanFileRefused(artifact=folder.name, reason=reason) from error
    verify_same_plan(folder, plan, promised)
    return plan


def verify_same_plan(folder: Path, plan: AllocationPlan, promised: PlanSummary) -> None:
    """A plan is the one that an executable was made with.

    Raises:
        PlanFileRefused: it is another.
    """
    if (plan.digest, plan.lower_bound_bytes) != (promised.digest, promised.lower_bound_bytes):
        reason = "it is not the plan that the executable was made with"
        raise PlanFileRefused(artifact=folder.name, reason=reason)


def _decode(document: Any) -> AllocationPlan:
    if document["schema_version"] != SCHEMA_VERSION:
        raise ValueError("another schema version")
    plan = AllocationPlan(
        placements=tuple(_placement(*buffer) for buffer in document["buffers"]),
        strategy=str(document["strategy"]),
        **{name: _count(document[name]) for name in _NUMBERS},
    )
    if any(p.offset_bytes + p.size_bytes > plan.peak_bytes for p in plan.placements):
        raise ValueError("a buffer outside the arena")
    return plan


def _placement(name: Any, *numbers: Any) -> Placement:
    offset, size, first, last = (_count(number) for number in numbers)
    if not isinstance(name, str) or last < first:
        raise ValueError("not a buffer")
    return Placement(name=name, offset_bytes=offset, size_bytes=size, first=first, last=last)


def _count(number: Any) -> int:
    if type(number) is not int or not 0 <= number <= _MOST:
        raise ValueError("not a count")
    return number
