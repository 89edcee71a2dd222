"""Whether the calibration of a pipeline speaks of the stages that it has.

A stage that `pipeline.toml` names without a version may become another one, and bounds that were measured
with the old one bound nothing. So a calibration remembers the digests of the stages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from plumbline.contracts.models import VersionKind
from plumbline.contracts.versions import VersionSpec
from plumbline.errors import ArtifactError
from plumbline.serving.repository.settings import CALIBRATION_FILE, MAX_TEXT_BYTES

__all__ = ["CalibrationStale", "stage_digests", "verify_calibrated_stages"]


@dataclass(eq=False, kw_only=True)
class CalibrationStale(ArtifactError):
    """A pipeline was calibrated with other stages than it has now."""

    code = "artifact.calibration_stale"
    owner = "product"
    template = (
        "pipeline {version!r} was not calibrated with the stages that it has now ({stages}); calibrate it "
        "again, and name the versions of its stages in pipeline.toml"
    )

    version: str
    stages: str


def stage_digests(spec: VersionSpec) -> list[str]:
    """Digests of the versions that a pipeline is made of, in order; pipelines within are laid out flat."""
    return [stage.digest for stage in _leaves(spec)]


def verify_calibrated_stages(spec: VersionSpec) -> None:
    """Bounds of a pipeline that lie beside it were measured with its stages. Bounds that its `version.toml`
    states are whoever wrote them's to answer for.

    Raises:
        CalibrationStale: they were not, or do not say with which.
    """
    path = spec.folder / CALIBRATION_FILE
    if not spec.settings.segment_bounds_ns or not path.is_file():
        return
    with path.open("rb") as file:
        document = json.loads(file.read(MAX_TEXT_BYTES))  # the repository has read it before
    if tuple(document.get("segment_bounds_ns", ())) != spec.settings.segment_bounds_ns:
        return
    if document.get("stages") != stage_digests(spec):
        stages = ", ".join(str(stage.ref) for stage in _leaves(spec))
        raise CalibrationStale(version=str(spec.ref), stages=stages)


def _leaves(spec: VersionSpec) -> Iterator[VersionSpec]:
    for stage in spec.stages:
        if stage.kind is VersionKind.PIPELINE:
            yield from _leaves(stage)
        else:
            yield stage
