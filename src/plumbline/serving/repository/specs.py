"""From a reference to a `VersionSpec`: fetched, checked, its kind decided, its pipeline stages resolved."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import VersionKind
from plumbline.contracts.versions import VersionSpec
from plumbline.serving.repository.contents import PIPELINE_FILE, decide_kind
from plumbline.serving.repository.names import verify_ref
from plumbline.serving.repository.port import PublishedState, PublishedVersion, Repository, newest_first
from plumbline.serving.repository.refusals import (
    ModelUnknown,
    PipelineRefused,
    VersionRetired,
    VersionUnknown,
    VersionUnusable,
)
from plumbline.serving.repository.settings import read_calibration, read_toml, read_version_toml

__all__ = ["StageLink", "fetch_spec", "newest_usable", "read_stages"]

MAX_STAGES: Final = 32
MAX_NESTING: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLink:
    """One stage as `pipeline.toml` names it. Without a version: the newest that is not retired."""

    model: str
    version: str | None = None


def fetch_spec(repository: Repository, ref: VersionRef, into: Path) -> VersionSpec:
    """Fetch a version, and the stages of a pipeline, and say what they are.

    Args:
        repository: where from.
        ref: which version.
        into: private folder to make; every fetched version gets a folder in it.

    Raises:
        PlumblineError: leaves of `repository.refusals`. After any of them `into` does not exist.
    """
    into.mkdir(mode=0o700, parents=True, exist_ok=False)
    try:
        return _Resolution(repository, into).spec(ref, ())
    except BaseException:
        shutil.rmtree(into, ignore_errors=True)
        raise


def newest_usable(versions: Sequence[PublishedVersion], model: str) -> PublishedVersion:
    """The newest version of a model that is not retired; one without files only where there is nothing else.

    Raises:
        ModelUnknown: there is no such model.
        VersionRetired: all its versions are retired.
    """
    own = newest_first([version for version in versions if version.ref.model == model])
    if not own:
        raise ModelUnknown(model=model)
    alive = [version for version in own if version.state is not PublishedState.RETIRED]
    if not alive:
        raise VersionRetired(model=model, version=own[0].ref.version)
    return next((version for version in alive if not version.has_no_files), alive[0])


def read_stages(folder: Path, *, subject: str) -> tuple[StageLink, ...]:
    """Stages of `pipeline.toml`, in order: `stages = [{model = "NAME", version = "1"}, ...]`.

    A stage takes, by name, what the stages before it gave and what the pipeline was given.

    Raises:
        PipelineRefused, SettingsRefused: naming what is wrong.
    """
    table = read_toml(folder / PIPELINE_FILE, source=f"{subject} {PIPELINE_FILE}")
    if unknown := sorted(set(table) - {"stages"}):
        raise PipelineRefused(pipeline=subject, reason=f"unknown key {unknown[0]!a}; known: stages")
    stages = table.get("stages")
    if not isinstance(stages, list) or not 0 < len(stages) <= MAX_STAGES:
        raise PipelineRefused(pipeline=subject, reason=f"stages: expected a list of 1 to {MAX_STAGES} tables")
    return tuple(_link(stage, position, subject) for position, stage in enumerate(stages))


def _link(stage: Any, position: int, subject: str) -> StageLink:
    if not isinstance(stage, dict):
        raise PipelineRefused(pipeline=subject, reason=f"stage {position}: expected a table")
    if unknown := sorted(set(stage) - {"model", "version"}):
        reason = f"stage {position}: unknown key {unknown[0]!a}; known: model, version"
        raise PipelineRefused(pipeline=subject, reason=reason)
    model, version = stage.get("model"), stage.get("version")
    if not isinstance(model, str) or not isinstance(version, str | None):
        raise PipelineRefused(pipeline=subject, reason=f"stage {position}: model and version are texts")
    verify_ref(VersionRef(model=model, version=version or "1"))
    return StageLink(model=model, version=version)


class _Resolution:
    """One walk over a version and its stages; a stage that occurs twice is fetched once."""

    def __init__(self, repository: Repository, into: Path) -> None:
        self._repository, self._into = repository, into
        self._done: dict[VersionRef, VersionSpec] = {}
        self._versions: Sequence[PublishedVersion] = ()

    def spec(self, ref: VersionRef, path: tuple[VersionRef, ...]) -> VersionSpec:
        """The spec of a version that was reached by a path of pipelines."""
        if ref in path:
            cycle = " -> ".join(str(step) for step in (*path[path.index(ref) :], ref))
            raise PipelineRefused(pipeline=str(path[0]), reason=f"it contains itself: {cycle}")
        if len(path) > MAX_NESTING:
            raise PipelineRefused(pipeline=str(path[0]), reason=f"nested more than {MAX_NESTING} deep")
        if ref not in self._done:
            self._done[ref] = self._fetched(ref, path)
        return self._done[ref]

    def _fetched(self, ref: VersionRef, path: tuple[VersionRef, ...]) -> VersionSpec:
        folder = self._into / f"{len(list(self._into.iterdir()))}"
        version = self._repository.fetch(ref, folder)
        subject = str(ref)
        settings, entry = read_version_toml(folder, subject=subject)
        settings = read_calibration(folder, settings, subject=subject)
        kind, found = decide_kind([file.path for file in version.files], entry, subject=subject)
        stages: tuple[VersionSpec, ...] = ()
        if kind is VersionKind.PIPELINE:
            links = read_stages(folder, subject=subject)
            stages = tuple(self._stage(link, number, (*path, ref)) for number, link in enumerate(links))
        return VersionSpec(
            ref=ref,
            kind=kind,
            folder=folder,
            entry=found,
            digest=version.digest,
            revision=version.revision,
            settings=settings,
            stages=stages,
        )

    def _stage(self, link: StageLink, number: int, path: tuple[VersionRef, ...]) -> VersionSpec:
        """The spec of a stage; what cannot be had is refused as a fault of the pipeline that names it."""
        try:
            return self.spec(self._ref(link), path)
        except (ModelUnknown, VersionUnknown, VersionRetired, VersionUnusable) as error:
            reason = f"stage {number}: {error.message}"
            raise PipelineRefused(pipeline=str(path[-1]), reason=reason) from error

    def _ref(self, link: StageLink) -> VersionRef:
        if link.version is not None:
            return VersionRef(model=link.model, version=link.version)
        self._versions = self._versions or self._repository.versions()
        return newest_usable(self._versions, link.model).ref
