"""`PlanShelf`: the memory plans of the versions that this run of a server prepared, and their pictures."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.versions import VersionSpec
from plumbline.errors import ArtifactError, ValidationError
from plumbline.product.serving.drawn_plans import DrawnPlan, DrawnPlans
from plumbline.serving.ports import PlanPicture

__all__ = ["PlanNotPrepared", "PlanPictureMissing", "PlanShelf", "PlanStageRefused", "VersionUnplanned"]

_MAX_BYTES = 8 << 20
_SHOWN_STAGES = 8


@dataclass(eq=False, kw_only=True)
class VersionUnplanned(ValidationError):
    """Nothing of a version is compiled, so nothing of it is planned."""

    code = "validation.version_unplanned"
    owner = "product"
    http_status = 404
    template = "{version} has no memory plan: {reason}"

    version: str
    reason: str


@dataclass(eq=False, kw_only=True)
class PlanNotPrepared(ValidationError):
    """A version was not prepared since this server was started, or its content changed since."""

    code = "validation.plan_not_prepared"
    owner = "product"
    http_status = 409
    template = "{version} was not prepared by this server, so its memory plan is not known; load it first"

    version: str


@dataclass(eq=False, kw_only=True)
class PlanStageRefused(ValidationError):
    """A version has several plans and none was named, or the named one is not there."""

    code = "validation.plan_stage"
    owner = "product"
    template = "{version} has plans of these stages: {stages}; name one of them"

    version: str
    stages: str


@dataclass(eq=False, kw_only=True)
class PlanPictureMissing(ArtifactError):
    """A plan was not drawn, or its picture is gone. The version serves all the same."""

    code = "artifact.plan_picture"
    owner = "product"
    http_status = 404
    template = "there is no picture of the memory plan of {stage}: {reason}"

    stage: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    digest: str
    folder: Path | None
    drawn: DrawnPlans


class PlanShelf:
    """Implements `serving.ports.PlanService`. Owns its folder and its records; used on one event loop.

    Args:
        folder: private to this run of the server; made when the first plan comes, removed by `close`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[VersionRef, _Kept] = {}
        self._numbers = itertools.count()

    async def empty_folder(self, ref: VersionRef) -> Path | None:
        """A folder for the pictures of a version that is prepared now; what was kept of it is forgotten.

        Returns:
            None where the disk does not take it: then there are no pictures.
        """
        old = self._kept.pop(ref, None)
        place = self._folder / str(next(self._numbers))
        return await asyncio.to_thread(_fresh, place, None if old is None else old.folder)

    def keep(self, spec: VersionSpec, folder: Path | None, drawn: DrawnPlans | None) -> None:
        """Give these plans from now on.

        Args:
            spec: of the version.
            folder: where its files are, or None for nowhere.
            drawn: what became of its parts; None where drawing did not end well.
        """
        if drawn is None:
            reason = "it could not be drawn when the version was prepared"
            drawn = DrawnPlans.without_pictures(str(spec.ref), reason)
        self._kept[spec.ref] = _Kept(digest=spec.digest, folder=folder, drawn=drawn)

    async def plans(self, ref: VersionRef, digest: str) -> Mapping[str, Any]:
        """The plans of all models of a version; see `PlanService`.

        Raises:
            PlanNotPrepared, VersionUnplanned, PlanPictureMissing: there is none.
        """
        kept = self._planned(ref, digest)
        return {
            "model": ref.model,
            "version": ref.version,
            "digest": kept.digest,
            "plans": [json.loads(await self._read(kept, plan, ".json")) for plan in kept.drawn.plans],
            "without": [
                {"stage": one.stage, "reason": one.reason}
                for one in (*kept.drawn.missing, *kept.drawn.unplanned)
            ],
        }

    async def picture(self, ref: VersionRef, digest: str, stage: str | None = None) -> PlanPicture:
        """One plan drawn; see `PlanService`.

        Raises:
            PlanNotPrepared, VersionUnplanned, PlanStageRefused, PlanPictureMissing: there is none.
        """
        kept = self._planned(ref, digest)
        drawn = {plan.stage: plan for plan in kept.drawn.plans}
        missing = {one.stage: one.reason for one in kept.drawn.missing}
        stages = [*drawn, *missing]
        chosen = stages[0] if stage is None and len(stages) == 1 else stage
        if chosen in missing:
            raise PlanPictureMissing(stage=chosen, reason=missing[chosen])
        if chosen not in drawn:
            more = f" and {len(stages) - _SHOWN_STAGES} more" if len(stages) > _SHOWN_STAGES else ""
            raise PlanStageRefused(version=str(ref), stages=", ".join(stages[:_SHOWN_STAGES]) + more)
        return PlanPicture(svg=await self._read(kept, drawn[chosen], ".svg"), digest=drawn[chosen].digest)

    async def close(self) -> None:
        """Remove the files."""
        self._kept.clear()
        await asyncio.to_thread(shutil.rmtree, self._folder, True)

    def _planned(self, ref: VersionRef, digest: str) -> _Kept:
        kept = self._kept.get(ref)
        if kept is None or kept.digest != digest:
            raise PlanNotPrepared(version=str(ref))
        if not kept.drawn.plans and not kept.drawn.missing:
            raise VersionUnplanned(version=str(ref), reason="it is made of Python classes")
        return kept

    async def _read(self, kept: _Kept, plan: DrawnPlan, suffix: str) -> bytes:
        if kept.folder is None:
            raise PlanPictureMissing(stage=plan.stage, reason="it was kept nowhere")
        try:
            return await asyncio.to_thread(_read_bounded, kept.folder / f"{plan.file}{suffix}")
        except OSError as error:
            reason = (error.strerror or "it cannot be read").lower()
            raise PlanPictureMissing(stage=plan.stage, reason=reason) from error


def _fresh(place: Path, old: Path | None) -> Path | None:
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    try:
        place.mkdir(mode=0o700, parents=True)
    except OSError:
        return None
    return place


def _read_bounded(path: Path) -> bytes:
    if path.stat().st_size > _MAX_BYTES:
        raise OSError(None, "it is too large")
    return path.read_bytes()
