"""Whatever happens to a version or a canary, it stays within its table."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import VersionState
from plumbline.serving.models.lifecycle import (
    TRANSITIONS,
    VersionEvent,
    VersionLife,
    VersionTransitionRefused,
    apply,
)
from plumbline.serving.models.routing import (
    CandidateRole,
    VersionCandidate,
    decide_route,
    decide_worker,
    request_draw,
)
from plumbline.serving.models.scaling import LoadSample, ScalingMemory, ScalingPolicy, decide_scale
from plumbline.serving.ports import WorkerState, WorkerStatus

REF = VersionRef(model="m", version="1")


@given(st.lists(st.sampled_from(VersionEvent), max_size=40))
def test_a_version_follows_its_table_or_stays_as_it_is(events: list[VersionEvent]) -> None:
    life = VersionLife(ref=REF)
    for moment, event in enumerate(events):
        before = life
        if (life.state, event) not in TRANSITIONS:
            with pytest.raises(VersionTransitionRefused, match=life.state.value):
                apply(life, event, moment, "because")
            continue
        life = apply(life, event, moment, "because")
        assert life == VersionLife(
            ref=REF, state=TRANSITIONS[before.state, event], reason="because", since_wall_ns=moment
        )


def test_ready_is_reached_only_through_a_warm_up() -> None:
    """Ready means that a real inference passed."""
    into_ready = [key for key, state in TRANSITIONS.items() if state is VersionState.READY]
    assert into_ready == [(VersionState.WARMING, VersionEvent.WARMED)]


def test_every_state_but_retired_can_be_left_and_every_state_reached() -> None:
    assert {state for state, _ in TRANSITIONS} == set(VersionState) - {VersionState.RETIRED}
    assert set(TRANSITIONS.values()) | {VersionState.FOUND} == set(VersionState)


CANDIDATES = st.lists(
    st.builds(
        VersionCandidate,
        ref=st.builds(VersionRef, model=st.just("m"), version=st.integers(0, 9).map(str)),
        state=st.sampled_from(VersionState),
        role=st.sampled_from(CandidateRole),
        share=st.floats(0, 1),
    ),
    unique_by=lambda c: c.ref,
    max_size=6,
)


@given(CANDIDATES, st.none() | st.integers(0, 9).map(str), st.floats(0, 1, exclude_max=True))
def test_a_route_accounts_for_every_candidate_and_chooses_only_what_is_ready(
    candidates: list[VersionCandidate], version: str | None, draw: float
) -> None:
    """L4-67."""
    decision = decide_route(candidates, version, draw)
    assert decision == decide_route(candidates, version, draw)
    rejected = [ref for ref, _ in decision.rejected]
    named = [*rejected, *([decision.chosen] if decision.chosen else [])]
    assert sorted(named) == sorted(c.ref for c in candidates)
    assert all(reason for _, reason in decision.rejected)
    if decision.chosen is not None:
        (chosen,) = [c for c in candidates if c.ref == decision.chosen]
        assert chosen.state is VersionState.READY
        assert version in (None, chosen.ref.version)
        assert version is not None or chosen.role is not CandidateRole.HELD
        if version is None and chosen.role is CandidateRole.CANARY:
            assert draw < chosen.share


@given(
    st.lists(
        st.builds(
            WorkerStatus,
            name=st.integers(0, 99).map(lambda n: f"w{n:02}"),
            generation=st.just(1),
            pid=st.just(0),
            state=st.sampled_from(WorkerState),
            queued=st.integers(0, 5),
            running=st.integers(0, 5),
            versions=st.sampled_from([(), ("m@1",), ("m@1", "m@2")]),
        ),
        unique_by=lambda w: w.name,
        max_size=5,
    )
)
def test_the_worker_with_the_least_accepted_work_is_chosen(workers: list[WorkerStatus]) -> None:
    """L4-67: stalled and draining workers are rejected with their state."""
    decision = decide_worker(workers, "m@1")
    fit = [w for w in workers if w.state is WorkerState.READY and "m@1" in w.versions]
    assert (decision.chosen is None) == (not fit)
    if fit:
        load = {w.name: w.queued + w.running for w in fit}
        assert load[decision.chosen or ""] == min(load.values())
    reasons = dict(decision.rejected)
    assert set(reasons) == {w.name for w in workers} - {decision.chosen}
    for worker in workers:
        if worker.state is not WorkerState.READY:
            assert reasons[worker.name] == f"it is {worker.state.value}"


@given(st.floats(0.05, 0.95), st.text(max_size=5))
def test_a_share_of_many_requests_is_about_the_share(share: float, salt: str) -> None:
    drawn = [request_draw(f"request-{n}", salt) for n in range(2000)]
    assert abs(sum(d < share for d in drawn) / 2000 - share) < 0.06
    assert drawn[:3] == [request_draw(f"request-{n}", salt) for n in range(3)]


@given(
    st.integers(1, 5),
    st.integers(0, 5),
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 20), st.integers(1, 3_000_000_000)), max_size=60),
)
def test_the_number_of_workers_stays_within_its_bounds_and_does_not_swing(
    low: int, more: int, load: list[tuple[int, int, int]]
) -> None:
    """L4-68."""
    policy = ScalingPolicy(
        min_workers=low,
        max_workers=low + more,
        max_age_ns=10,
        up_cooldown_ns=1_000_000_000,
        down_after_ns=5_000_000_000,
    )
    workers, memory, now_ns = low, ScalingMemory(), 0
    changes: list[tuple[int, int]] = []
    for accepted, age_ns, step_ns in load:
        now_ns += step_ns
        decision = decide_scale(
            policy, LoadSample(workers=workers, accepted=accepted, oldest_age_ns=age_ns), memory, now_ns
        )
        assert low <= decision.workers <= low + more
        assert decision.reason
        if decision.workers != workers:
            changes.append((now_ns, decision.workers - workers))
        workers, memory = decision.workers, decision.memory
    for (before_ns, _), (after_ns, step) in itertools.pairwise(changes):
        assert after_ns - before_ns >= (1_000_000_000 if step > 0 else 5_000_000_000)
