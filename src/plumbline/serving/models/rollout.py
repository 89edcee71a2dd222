"""A canary: a share of the requests for a new version, and a stated rule by which it is rolled back.

canary --roll back--> rolled_back        the rule, or an operator, ended it: share 0
canary --promote----> promoted           enough good answers, or an operator: it gets everything
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from plumbline.contracts.inference import VersionRef
from plumbline.serving.models.refusals import CanaryRefused

__all__ = [
    "TRANSITIONS",
    "Outcome",
    "OutcomeWindow",
    "Rollout",
    "RolloutEvent",
    "RolloutPolicy",
    "RolloutState",
    "Sample",
    "Verdict",
    "advance",
    "decide_rollout",
    "sample",
    "verify_policy",
]


class RolloutState(StrEnum):
    """Where a canary stands."""

    CANARY = "canary"
    ROLLED_BACK = "rolled_back"
    PROMOTED = "promoted"


class RolloutEvent(StrEnum):
    """What may happen to it."""

    ROLL_BACK = "roll_back"
    PROMOTE = "promote"


TRANSITIONS: Final[Mapping[tuple[RolloutState, RolloutEvent], RolloutState]] = MappingProxyType(
    {
        (RolloutState.CANARY, RolloutEvent.ROLL_BACK): RolloutState.ROLLED_BACK,
        (RolloutState.CANARY, RolloutEvent.PROMOTE): RolloutState.PROMOTED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPolicy:
    """The rule.

    Attributes:
        share: of the requests that name no version, above 0 and below 1.
        window: last answers of each side that count.
        min_requests: answers of the canary before anything is decided, and of the base before latencies are
            compared.
        error_margin: roll back when the error rate is above that of the base by more than this.
        latency_factor: roll back when the p99 latency is above that of the base times this.
        promote_after: good answers after which it gets everything; 0 waits for an operator.
    """

    share: float = 0.1
    window: int = 200
    min_requests: int = 50
    error_margin: float = 0.02
    latency_factor: float = 2.0
    promote_after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One canary of a model beside its base."""

    canary: VersionRef
    base: VersionRef
    policy: RolloutPolicy
    state: RolloutState = RolloutState.CANARY
    reason: str = ""
    since_wall_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One answer: whether it failed, and how long it took."""

    failed: bool
    latency_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a window of answers says. `p99_ns` is over the answers without error, 0 without any."""

    requests: int
    errors: int
    p99_ns: int

    @property
    def error_rate(self) -> float:
        """Errors of the requests, 0 without any."""
        return self.errors / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the rule says, and the numbers that said it."""

    event: RolloutEvent
    reason: str


def verify_policy(policy: RolloutPolicy, canary: VersionRef) -> RolloutPolicy:
    """The policy itself.

    Raises:
        CanaryRefused: naming the value that cannot be.
    """
    for name, fits in (
        ("share above 0 and below 1", 0.0 < policy.share < 1.0),
        ("window from 1 to 100000", 1 <= policy.window <= 100_000),
        ("min_requests from 1 to window", 1 <= policy.min_requests <= policy.window),
        ("error_margin from 0 to 1", 0.0 <= policy.error_margin <= 1.0),
        ("latency_factor of 1 at least", policy.latency_factor >= 1.0),
        ("promote_after of 0, or min_requests at least", _promotes_late(policy)),
    ):
        if not fits:
            raise CanaryRefused(model=canary.model, version=canary.version, reason=f"expected {name}")
    return policy


def advance(rollout: Rollout, event: RolloutEvent, reason: str, wall_ns: int) -> Rollout:
    """What follows.

    Raises:
        CanaryRefused: it has ended.
    """
    following = TRANSITIONS.get((rollout.state, event))
    if following is None:
        ref = rollout.canary
        raise CanaryRefused(
            model=ref.model, version=ref.version, reason=f"it is {rollout.state.value}: {rollout.reason}"
        )
    return replace(rollout, state=following, reason=reason, since_wall_ns=wall_ns)


def sample(outcomes: Collection[Outcome]) -> Sample:
    """Count a window.

    >>> sample([Outcome(failed=False, latency_ns=5), Outcome(failed=True, latency_ns=9)])
    Sample(requests=2, errors=1, p99_ns=5)
    """
    good = sorted(outcome.latency_ns for outcome in outcomes if not outcome.failed)
    p99_ns = good[max(-(-99 * len(good) // 100), 1) - 1] if good else 0
    return Sample(requests=len(outcomes), errors=len(outcomes) - len(good), p99_ns=p99_ns)


def decide_rollout(policy: RolloutPolicy, canary: Sample, base: Sample, good: int) -> Verdict | None:
    """What the rule says now, or None while it says nothing.

    Args:
        policy: the rule.
        canary: window of the canary.
        base: window of the base, of the same time.
        good: answers of the canary without error since it began.
    """
    if canary.requests < policy.min_requests:
        return None
    if canary.error_rate > base.error_rate + policy.error_margin:
        reason = (
            f"{canary.errors} errors of {canary.requests} requests, base {base.errors} of {base.requests}, "
            f"margin {policy.error_margin:g}"
        )
        return Verdict(event=RolloutEvent.ROLL_BACK, reason=reason)
    if base.requests >= policy.min_requests and canary.p99_ns > policy.latency_factor * base.p99_ns > 0:
        reason = f"p99 {canary.p99_ns} ns, base {base.p99_ns} ns, factor {policy.latency_factor:g}"
        return Verdict(event=RolloutEvent.ROLL_BACK, reason=reason)
    if policy.promote_after and good >= policy.promote_after:
        return Verdict(event=RolloutEvent.PROMOTE, reason=f"{good} good answers")
    return None


class OutcomeWindow:
    """The last answers of both sides of one rollout. Owned by the directory."""

    def __init__(self, policy: RolloutPolicy) -> None:
        self._policy = policy
        self._canary: deque[Outcome] = deque(maxlen=policy.window)
        self._base: deque[Outcome] = deque(maxlen=policy.window)
        self._good = 0

    def see(self, outcome: Outcome, *, of_canary: bool) -> Verdict | None:
        """Count an answer; what the rule says after it. The base alone never decides."""
        if not of_canary:
            self._base.append(outcome)
            return None
        self._canary.append(outcome)
        self._good += not outcome.failed
        if len(self._canary) < self._policy.min_requests:
            return None
        return decide_rollout(self._policy, sample(self._canary), sample(self._base), self._good)


def _promotes_late(policy: RolloutPolicy) -> bool:
    return policy.promote_after == 0 or policy.promote_after >= policy.min_requests
