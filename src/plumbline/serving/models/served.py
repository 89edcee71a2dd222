"""What the directory knows about its models. Plain records; the directory alone changes them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import ModelMetadata, VersionState, VersionStatus
from plumbline.contracts.versions import VersionSpec
from plumbline.serving.models.lifecycle import VersionLife
from plumbline.serving.models.rollout import OutcomeWindow, Rollout, RolloutState
from plumbline.serving.models.routing import CandidateRole, RouteDecision, VersionCandidate, decide_route
from plumbline.serving.models.statistics import VersionCounters
from plumbline.serving.repository.port import PublishedState, PublishedVersion, newest_first

__all__ = ["ServedModel", "ServedVersion"]

_NOT_WEIGHED: Final = frozenset({VersionState.FOUND, VersionState.UNLOADED, VersionState.RETIRED})


@dataclass(slots=True, kw_only=True, eq=False)
class ServedVersion:
    """One version: as published, where in its life, and what it has while it is loaded.

    Attributes:
        published: as the repository listed it last.
        life: state, reason and since when.
        key: `model@version`.
        counters: since it became ready.
        spec: of the loaded version.
        metadata: of the loaded version.
        copy: folder of its private copy.
        wanted: whether readiness waits for it.
        changing: held while it is loaded or unloaded.
    """

    published: PublishedVersion
    life: VersionLife
    key: str
    counters: VersionCounters
    spec: VersionSpec | None = None
    metadata: ModelMetadata | None = None
    copy: Path | None = None
    wanted: bool = False
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def ref(self) -> VersionRef:
        """Model and version."""
        return self.published.ref

    @property
    def is_ready(self) -> bool:
        """Whether it serves."""
        return self.life.state is VersionState.READY

    @property
    def waits(self) -> bool:
        """Whether a start is going to load it, and others are before it."""
        return self.wanted and self.life.state is VersionState.FOUND

    def settings(self) -> Mapping[str, Any]:
        """What is in force, with digest and revision."""
        facts = {"digest": self.published.digest, "revision": self.published.revision}
        return facts if self.spec is None else {**facts, **asdict(self.spec.settings)}


@dataclass(slots=True, kw_only=True, eq=False)
class ServedModel:
    """One model: its versions newest first, its canary, and who answers without a choice.

    Attributes:
        name: of the model.
        versions: newest first.
        rollout: the canary that runs, or that ended last.
        window: its answers, while it runs.
        held: versions that were rolled back, or before which an older one was promoted.
        sole: the one version, while it is ready and the only candidate; such calls need no decision.
        candidates: as routing sees them: versions that are loaded, on their way, failed or pinned, so that
            the hundreds that only lie in the repository cost a request nothing. Made again after a change.
        usual: the decision for a request that names no version, while there is no canary.
        named: decisions for requests that name a version, kept until the next change; one for each version
            at most.
    """

    name: str
    versions: dict[str, ServedVersion] = field(default_factory=dict)
    rollout: Rollout | None = None
    window: OutcomeWindow | None = None
    held: set[str] = field(default_factory=set)
    sole: ServedVersion | None = None
    candidates: tuple[VersionCandidate, ...] = ()
    usual: RouteDecision = field(default_factory=lambda: decide_route((), None, 1.0))
    named: dict[str, RouteDecision] = field(default_factory=dict)

    @property
    def canary(self) -> Rollout | None:
        """The canary that runs."""
        running = self.rollout is not None and self.rollout.state is RolloutState.CANARY
        return self.rollout if running else None

    def settle(self) -> None:
        """Sort the versions and derive what routing reads. Called after every change."""
        order = newest_first([version.published for version in self.versions.values()])
        self.versions = {published.ref.version: self.versions[published.ref.version] for published in order}
        weighed = [version for version in self.versions.values() if _is_weighed(version)]
        self.candidates = tuple(self._candidate(version) for version in weighed)
        self.usual = decide_route(self.candidates, None, 1.0)
        self.named = {}
        only = weighed[0] if len(weighed) == 1 else None
        self.sole = only if only is not None and self.usual.chosen == only.ref else None

    def decision(self, version: str | None, draw: float = 1.0) -> RouteDecision:
        """Who answers a request. A version that the request names is weighed in any state.

        Args:
            version: named by the request, or None.
            draw: `request_draw` of the request while there is a canary.
        """
        if version is None:
            return self.usual if self.canary is None else decide_route(self.candidates, None, draw)
        known = self.versions.get(version)
        if known is None:
            return decide_route(self.candidates, version, draw)
        decision = self.named.get(version)
        if decision is None:
            extra = () if _is_weighed(known) else (self._candidate(known),)
            decision = self.named[version] = decide_route((*extra, *self.candidates), version, draw)
        return decision

    def role(self, version: ServedVersion) -> CandidateRole:
        """Which unpinned requests a version may get."""
        if self.canary is not None and self.canary.canary == version.ref:
            return CandidateRole.CANARY
        if version.published.state is PublishedState.PINNED:
            return CandidateRole.PINNED
        return CandidateRole.HELD if version.ref.version in self.held else CandidateRole.STABLE

    def status(self, version: ServedVersion, share: float) -> VersionStatus:
        """As people and clients see it."""
        return VersionStatus(
            ref=version.ref,
            state=version.life.state,
            reason=version.life.reason or version.published.problem,
            since_wall_ns=version.life.since_wall_ns,
            pinned=version.published.state is PublishedState.PINNED,
            share=share,
            settings=version.settings(),
        )

    def _candidate(self, version: ServedVersion) -> VersionCandidate:
        role = self.role(version)
        share = self.canary.policy.share if self.canary and role is CandidateRole.CANARY else 0.0
        return VersionCandidate(ref=version.ref, state=version.life.state, role=role, share=share)


def _is_weighed(version: ServedVersion) -> bool:
    is_pinned = version.published.state is PublishedState.PINNED
    return is_pinned or version.life.state not in _NOT_WEIGHED
