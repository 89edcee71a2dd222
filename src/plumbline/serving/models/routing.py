"""Which version answers a call, and which worker runs it. Pure: equal arguments give equal decisions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import VersionState
from plumbline.serving.ports import WorkerState, WorkerStatus

__all__ = [
    "CandidateRole",
    "RouteDecision",
    "RouteReason",
    "VersionCandidate",
    "WorkerDecision",
    "decide_route",
    "decide_worker",
    "request_draw",
]


class CandidateRole(StrEnum):
    """Which requests a version may get that name no version."""

    STABLE = "stable"
    """The newest ready one of these gets them, unless one is pinned."""
    PINNED = "pinned"
    """It gets them, and nobody takes its place."""
    CANARY = "canary"
    """A stated share of them."""
    HELD = "held"
    """None: it was rolled back, or another was promoted before it."""


class RouteReason(StrEnum):
    """Why a version was chosen; also written into the decision log."""

    ONLY = "only_version"
    ASKED = "named_by_request"
    PINNED = "pinned_version"
    NEWEST = "newest_ready"
    CANARY = "canary_share"
    NONE = "none_ready"
    ANSWERED = "answered"
    """No choice: how a routed request that got no result was answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionCandidate:
    """A version as routing sees it. `share` counts for a canary, from 0 to 1."""

    ref: VersionRef
    state: VersionState
    role: CandidateRole = CandidateRole.STABLE
    share: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteDecision:
    """The chosen version, or None; everybody else with the reason.

    Attributes:
        chosen: that answers.
        rejected: the others in the order of the candidates, each with a reason in plain words.
        reason: code of the rule that decided.
        preferred: that the rule named, also where it is not ready and so nothing was chosen.
    """

    chosen: VersionRef | None
    rejected: tuple[tuple[VersionRef, str], ...]
    reason: RouteReason
    preferred: VersionRef | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDecision:
    """The chosen worker by name, or None; the others with the reason."""

    chosen: str | None
    rejected: tuple[tuple[str, str], ...]


def request_draw(request: str, salt: str) -> float:
    """A number from 0 up to 1 that depends on the request id alone, so that a decision replays.

    Args:
        request: id of the request.
        salt: the canary, so that two canaries do not get the same requests.
    """
    digest = hashlib.blake2b(request.encode(), digest_size=8, key=salt.encode()[:64]).digest()
    return int.from_bytes(digest, "big") / 2.0**64


def decide_route(candidates: Sequence[VersionCandidate], version: str | None, draw: float) -> RouteDecision:
    """Choose a version.

    A version that the request names is the one, ready or not. Otherwise a ready canary gets the requests
    whose draw is below its share, a pinned version gets the others, and without a pin the newest ready stable
    one.

    Args:
        candidates: versions of one model, newest first.
        version: named by the request, or None.
        draw: `request_draw` of the request.
    """
    preferred, reason = _preferred(candidates, version, draw)
    chosen = preferred if preferred is not None and preferred.state is VersionState.READY else None
    rejected = tuple((c.ref, _rejection(c, preferred, reason)) for c in candidates if c is not chosen)
    return RouteDecision(
        chosen=None if chosen is None else chosen.ref,
        rejected=rejected,
        reason=reason,
        preferred=None if preferred is None else preferred.ref,
    )


def decide_worker(workers: Sequence[WorkerStatus], version: str) -> WorkerDecision:
    """The ready worker that holds the version and has the least accepted work; the first of equals.

    Args:
        workers: every place, in order of name.
        version: key of the version.
    """
    best: WorkerStatus | None = None
    for worker in workers:
        if _unfit(worker, version):
            continue
        if best is None or worker.queued + worker.running < best.queued + best.running:
            best = worker
    rejected = tuple(
        (worker.name, _unfit(worker, version) or f"busier: {worker.queued + worker.running} accepted")
        for worker in workers
        if worker is not best
    )
    return WorkerDecision(chosen=None if best is None else best.name, rejected=rejected)


def _preferred(
    candidates: Sequence[VersionCandidate], version: str | None, draw: float
) -> tuple[VersionCandidate | None, RouteReason]:
    if version is not None:
        return next((c for c in candidates if c.ref.version == version), None), RouteReason.ASKED
    for candidate in candidates:
        if _takes_canary(candidate, draw):
            return candidate, RouteReason.CANARY
    for candidate in candidates:
        if candidate.role is CandidateRole.PINNED:
            return candidate, RouteReason.PINNED
    for candidate in candidates:
        if candidate.role is CandidateRole.STABLE and candidate.state is VersionState.READY:
            return candidate, RouteReason.ONLY if len(candidates) == 1 else RouteReason.NEWEST
    return None, RouteReason.NONE


def _takes_canary(candidate: VersionCandidate, draw: float) -> bool:
    return (
        candidate.role is CandidateRole.CANARY
        and candidate.state is VersionState.READY
        and draw < candidate.share
    )


def _rejection(candidate: VersionCandidate, preferred: VersionCandidate | None, reason: RouteReason) -> str:
    if candidate.state is not VersionState.READY:
        return f"it is {candidate.state.value}"
    if reason is RouteReason.ASKED:
        return "the request names another version"
    if candidate.role is CandidateRole.HELD:
        return "it was put aside after a canary"
    if candidate.role is CandidateRole.CANARY:
        return f"the request is outside of its share of {candidate.share:g}"
    if reason is RouteReason.CANARY:
        return "the request is in the share of the canary"
    if preferred is not None and preferred.role is CandidateRole.PINNED:
        return "another version is pinned"
    return "a newer version is ready"


def _unfit(worker: WorkerStatus, version: str) -> str:
    if worker.state is not WorkerState.READY:
        return f"it is {worker.state.value}"
    if version not in worker.versions:
        return "the version is not loaded in it"
    return ""
