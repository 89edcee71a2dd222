"""Tables of routing, canaries and scaling (L4-67, L4-68)."""

from __future__ import annotations

import pytest

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import VersionState
from plumbline.serving.models.refusals import CanaryRefused
from plumbline.serving.models.rollout import (
    TRANSITIONS,
    Outcome,
    OutcomeWindow,
    Rollout,
    RolloutEvent,
    RolloutPolicy,
    RolloutState,
    Sample,
    advance,
    decide_rollout,
    sample,
    verify_policy,
)
from plumbline.serving.models.routing import CandidateRole, RouteReason, VersionCandidate, decide_route
from plumbline.serving.models.scaling import (
    LoadSample,
    ScalingMemory,
    ScalingPolicy,
    ScalingPolicyRefused,
    decide_scale,
)

READY, LOADING, FAILED = VersionState.READY, VersionState.LOADING, VersionState.FAILED
STABLE, PINNED, CANARY, HELD = CandidateRole


def ref(version: str) -> VersionRef:
    return VersionRef(model="m", version=version)


def candidate(
    version: str, state: VersionState = READY, role: CandidateRole = STABLE, share: float = 0.0
) -> VersionCandidate:
    return VersionCandidate(ref=ref(version), state=state, role=role, share=share)


@pytest.mark.parametrize(
    ("candidates", "asked", "draw", "chosen", "reason"),
    [
        ([candidate("1")], None, 0.0, "1", RouteReason.ONLY),
        ([candidate("2"), candidate("1")], None, 0.0, "2", RouteReason.NEWEST),
        ([candidate("2"), candidate("1")], "1", 0.0, "1", RouteReason.ASKED),
        ([candidate("2", LOADING), candidate("1")], None, 0.0, "1", RouteReason.NEWEST),
        ([candidate("2", LOADING), candidate("1")], "2", 0.0, None, RouteReason.ASKED),
        ([candidate("2"), candidate("1")], "9", 0.0, None, RouteReason.ASKED),
        ([candidate("2"), candidate("1", role=PINNED)], None, 0.0, "1", RouteReason.PINNED),
        ([candidate("2"), candidate("1", FAILED, PINNED)], None, 0.0, None, RouteReason.PINNED),
        ([candidate("2", role=CANARY, share=0.3), candidate("1")], None, 0.29, "2", RouteReason.CANARY),
        ([candidate("2", role=CANARY, share=0.3), candidate("1")], None, 0.3, "1", RouteReason.NEWEST),
        ([candidate("2", LOADING, CANARY, 0.3), candidate("1")], None, 0.0, "1", RouteReason.NEWEST),
        ([candidate("2", READY, CANARY, 0.3), candidate("1", READY, PINNED)], None, 0.1, "2",
         RouteReason.CANARY),
        ([candidate("2", role=HELD), candidate("1")], None, 0.0, "1", RouteReason.NEWEST),
        ([candidate("2", role=HELD), candidate("1")], "2", 0.0, "2", RouteReason.ASKED),
        ([candidate("2", role=HELD)], None, 0.0, None, RouteReason.NONE),
        ([], None, 0.0, None, RouteReason.NONE),
    ],
)  # fmt: skip
def test_who_answers(
    candidates: list[VersionCandidate],
    asked: str | None,
    draw: float,
    chosen: str | None,
    reason: RouteReason,
) -> None:
    decision = decide_route(candidates, asked, draw)
    assert (decision.chosen and decision.chosen.version, decision.reason) == (chosen, reason)


def test_every_loser_is_told_why() -> None:
    candidates = [
        candidate("5", FAILED),
        candidate("4", role=HELD),
        candidate("3", role=CANARY, share=0.1),
        candidate("2"),
        candidate("1"),
    ]
    decision = decide_route(candidates, None, 0.5)
    assert {r.version: reason for r, reason in decision.rejected} == {
        "5": "it is failed",
        "4": "it was put aside after a canary",
        "3": "the request is outside of its share of 0.1",
        "1": "a newer version is ready",
    }


# -- canaries ------------------------------------------------------------------------------------------------

POLICY = RolloutPolicy(min_requests=10, error_margin=0.1, latency_factor=2.0, promote_after=40)


def seen(requests: int, errors: int = 0, p99_ns: int = 100) -> Sample:
    return Sample(requests=requests, errors=errors, p99_ns=p99_ns)


@pytest.mark.parametrize(
    ("canary", "base", "good", "event"),
    [
        (seen(9, 9), seen(100), 0, None),
        (seen(10, 2), seen(100), 8, RolloutEvent.ROLL_BACK),
        (seen(10, 1), seen(100), 9, None),
        (seen(10, 5), seen(10, 5), 5, None),
        (seen(10, 2), seen(0), 8, RolloutEvent.ROLL_BACK),
        (seen(10, p99_ns=201), seen(10, p99_ns=100), 10, RolloutEvent.ROLL_BACK),
        (seen(10, p99_ns=200), seen(10, p99_ns=100), 10, None),
        (seen(10, p99_ns=900), seen(9, p99_ns=100), 10, None),
        (seen(40), seen(10), 40, RolloutEvent.PROMOTE),
        (seen(40, 30), seen(10), 40, RolloutEvent.ROLL_BACK),
        (seen(40), seen(10), 39, None),
    ],
)
def test_what_the_rule_says(canary: Sample, base: Sample, good: int, event: RolloutEvent | None) -> None:
    verdict = decide_rollout(POLICY, canary, base, good)
    assert (verdict.event if verdict else None) is event


def test_a_verdict_names_the_numbers_behind_it() -> None:
    verdict = decide_rollout(POLICY, seen(10, 2), seen(100, 1), 8)
    assert verdict is not None
    assert verdict.reason == "2 errors of 10 requests, base 1 of 100, margin 0.1"


def test_p99_is_over_good_answers() -> None:
    outcomes = [Outcome(failed=False, latency_ns=n) for n in range(1, 101)]
    assert sample([*outcomes, Outcome(failed=True, latency_ns=10**9)]) == seen(101, 1, 99)
    assert sample([]) == seen(0, 0, 0)


def test_a_window_forgets_what_is_older() -> None:
    window = OutcomeWindow(RolloutPolicy(window=10, min_requests=10, error_margin=0.05))
    good, bad = Outcome(failed=False, latency_ns=1), Outcome(failed=True, latency_ns=1)
    assert [window.see(bad, of_canary=False) for _ in range(50)] == [None] * 50
    assert [window.see(bad, of_canary=True) for _ in range(10)] == [None] * 10
    for _ in range(9):
        assert window.see(good, of_canary=False) is None
    assert window.see(good, of_canary=False) is None
    verdict = window.see(bad, of_canary=True)
    assert verdict is not None
    assert verdict.event is RolloutEvent.ROLL_BACK


def test_a_canary_that_ended_does_not_end_again() -> None:
    rollout = Rollout(canary=ref("2"), base=ref("1"), policy=POLICY)
    for event in RolloutEvent:
        ended = advance(rollout, event, "why", 7)
        assert (ended.state, ended.reason, ended.since_wall_ns) == (
            TRANSITIONS[RolloutState.CANARY, event],
            "why",
            7,
        )
        for again in RolloutEvent:
            with pytest.raises(CanaryRefused, match="why"):
                advance(ended, again, "", 8)


@pytest.mark.parametrize(
    "policy",
    [
        RolloutPolicy(share=0.0),
        RolloutPolicy(share=1.0),
        RolloutPolicy(window=10, min_requests=11),
        RolloutPolicy(min_requests=0),
        RolloutPolicy(error_margin=-0.1),
        RolloutPolicy(latency_factor=0.5),
        RolloutPolicy(promote_after=3),
    ],
)
def test_a_policy_that_cannot_be_is_refused(policy: RolloutPolicy) -> None:
    with pytest.raises(CanaryRefused):
        verify_policy(policy, ref("2"))


# -- scaling -------------------------------------------------------------------------------------------------

SECOND = 1_000_000_000
SCALING = ScalingPolicy(
    min_workers=1,
    max_workers=4,
    high_per_worker=8,
    low_per_worker=2,
    max_age_ns=SECOND,
    up_cooldown_ns=SECOND,
    down_after_ns=30 * SECOND,
)


@pytest.mark.parametrize(
    ("workers", "accepted", "age_ns", "memory", "wanted"),
    [
        (1, 8, 0, ScalingMemory(), 1),
        (1, 9, 0, ScalingMemory(), 2),
        (1, 25, 0, ScalingMemory(), 4),
        (1, 1000, 0, ScalingMemory(), 4),
        (4, 1000, 0, ScalingMemory(), 4),
        (2, 3, SECOND + 1, ScalingMemory(), 3),
        (1, 9, 0, ScalingMemory(changed_ns=100 * SECOND - 1), 1),
        (1, 9, 0, ScalingMemory(changed_ns=99 * SECOND), 2),
        (3, 0, 0, ScalingMemory(low_since_ns=71 * SECOND), 3),
        (3, 0, 0, ScalingMemory(low_since_ns=70 * SECOND), 2),
        (3, 3, 0, ScalingMemory(low_since_ns=70 * SECOND), 2),
        (3, 4, 0, ScalingMemory(low_since_ns=70 * SECOND), 3),
        (3, 0, 0, ScalingMemory(low_since_ns=60 * SECOND, changed_ns=80 * SECOND), 3),
        (1, 0, 0, ScalingMemory(low_since_ns=0), 1),
        (0, 0, 0, ScalingMemory(), 1),
        (9, 0, 0, ScalingMemory(), 4),
    ],
)
def test_how_many_workers(
    workers: int, accepted: int, age_ns: int, memory: ScalingMemory, wanted: int
) -> None:
    """L4-68; the time is 100 s."""
    load = LoadSample(workers=workers, accepted=accepted, oldest_age_ns=age_ns)
    assert decide_scale(SCALING, load, memory, 100 * SECOND).workers == wanted


def test_a_load_that_rises_again_starts_the_wait_anew() -> None:
    memory = decide_scale(SCALING, LoadSample(workers=2, accepted=0), ScalingMemory(), 0).memory
    assert memory.low_since_ns == 0
    memory = decide_scale(SCALING, LoadSample(workers=2, accepted=5), memory, SECOND).memory
    assert memory.low_since_ns is None


@pytest.mark.parametrize(
    "bounds",
    [
        {"min_workers": 0},
        {"min_workers": 3, "max_workers": 2},
        {"low_per_worker": 8.0},
        {"low_per_worker": 0.0},
        {"max_age_ns": -1},
    ],
)
def test_bounds_that_contradict_are_refused(bounds: dict[str, int]) -> None:
    with pytest.raises(ScalingPolicyRefused):
        ScalingPolicy(**bounds)  # type: ignore[arg-type]
