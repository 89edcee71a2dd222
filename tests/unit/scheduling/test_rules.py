"""Fingerprints of rules: equal for equal decisions, different for other ones (L4-17)."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest

from plumbline.contracts.records import decode_record
from plumbline.contracts.requests import RequestId, TenantId
from plumbline.scheduling import rules
from plumbline.scheduling.decisions import DecisionCore
from plumbline.scheduling.departures import Departures
from plumbline.scheduling.policies import fair
from plumbline.scheduling.policies.fair import FairPolicy
from plumbline.scheduling.policies.fifo import FifoPolicy
from plumbline.scheduling.policy import Key
from plumbline.scheduling.recording import DecisionRecorder
from plumbline.scheduling.replay import replay
from plumbline.scheduling.request import ExecutionRequest
from plumbline.scheduling.rules import UNKNOWN, RulesDiffer, fingerprint_of, verify_rules


def test_every_kind_of_decision_is_part_of_the_examination() -> None:
    kinds = set()
    for body in rules._examine(FairPolicy()):
        kinds.add(str(decode_record(body).__struct_config__.tag))
    told = "arrival selection held launch boundary finish cancel expire refuse snapshot"
    assert kinds == set(told.split())


def test_a_policy_in_use_has_the_fingerprint_of_a_new_one_and_stays_as_it_is() -> None:
    used = FairPolicy()
    core = DecisionCore(policy=used, capacity=4, streams=1)
    core.submit(ExecutionRequest(id=RequestId("a"), graph="m@1", tenant=TenantId("t")), 5)
    before = core.snapshot()
    assert fingerprint_of(used) == fingerprint_of(FairPolicy()) != UNKNOWN
    assert core.snapshot() == before


def test_other_words_for_a_decision_are_no_other_rules() -> None:
    class Reworded(FifoPolicy):
        """Says it in other words."""

        def reason(self, request: ExecutionRequest, key: Key) -> str:
            return "because"

    assert fingerprint_of(Reworded()) == fingerprint_of(FifoPolicy())


def test_another_constant_of_a_policy_is_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint_of(FairPolicy())
    monkeypatch.setattr(fair, "DEFAULT_COST_NS", fair.DEFAULT_COST_NS + 1)
    assert fingerprint_of(FairPolicy()) != before


def test_another_core_is_another_fingerprint_of_every_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core changes, no policy does."""
    before = fingerprint_of(FifoPolicy())
    depart = Departures.depart
    monkeypatch.setattr(Departures, "depart", lambda self, now_ns, count: depart(self, now_ns, count + 1))
    assert fingerprint_of(FifoPolicy()) != before


def test_the_settings_of_a_policy_are_part_of_its_rules() -> None:
    """It is made with an argument, so nobody can make a new one without knowing it."""

    class Weighted(FifoPolicy):
        def __init__(self, weight: int) -> None:
            self.weight = weight

        def enter(self, request: ExecutionRequest, arrival: int) -> Key:
            return (request.priority * self.weight, arrival)

    assert fingerprint_of(Weighted(2)) == fingerprint_of(Weighted(2)) != fingerprint_of(Weighted(3))


def test_a_policy_that_knows_only_its_own_tenants_has_a_fingerprint_too() -> None:
    class Chosen(FifoPolicy):
        def enter(self, request: ExecutionRequest, arrival: int) -> Key:
            return ({"gold": 0, "iron": 1}[request.tenant], arrival)

    assert fingerprint_of(Chosen()) == fingerprint_of(Chosen()) != fingerprint_of(FifoPolicy())


def test_a_key_that_no_record_holds_ends_the_examination_and_nothing_else() -> None:
    class Huge(FifoPolicy):
        def enter(self, request: ExecutionRequest, arrival: int) -> Key:
            return (1 << 80, arrival)

    assert fingerprint_of(Huge()) not in {UNKNOWN, fingerprint_of(FifoPolicy())}


def test_a_policy_that_cannot_be_copied_is_recorded_with_unknown_rules() -> None:
    class Locked(FifoPolicy):
        def __init__(self) -> None:
            self.lock = threading.Lock()

    class Kept:
        def __init__(self) -> None:
            self.bodies: list[bytes] = []

        def append(self, body: bytes) -> None:
            self.bodies.append(body)

        def begin_segments_with(self, snapshot: Any, missed: int = 0) -> None:
            self.bodies.append(snapshot())

        def is_due(self) -> bool:
            return False

        def note(self, stopped_because: str | None, missed: int) -> None:
            pytest.fail("nothing was missed")

    assert fingerprint_of(Locked()) == UNKNOWN
    kept = Kept()
    core = DecisionCore(policy=Locked(), capacity=4, streams=1)
    DecisionRecorder(core, kept)
    core.submit(ExecutionRequest(id=RequestId("a"), graph="m@1", tenant=TenantId("t")), 5)
    assert replay(kept.bodies, policy=lambda _: Locked()).rules == [("fifo", UNKNOWN)]


@pytest.mark.parametrize("logged", ["", "0-1234567890abcdef", "2-1234567890abcdef", "x"])
def test_fingerprints_of_other_examinations_say_nothing(logged: str) -> None:
    verify_rules(0, FifoPolicy(), logged)


def test_a_fingerprint_of_this_examination_must_be_that_of_the_rules_here() -> None:
    verify_rules(0, FifoPolicy(), fingerprint_of(FifoPolicy()))
    with pytest.raises(RulesDiffer) as found:
        verify_rules(7, FifoPolicy(), "1-" + "e" * 500)
    assert len(found.value.message) < 300, "what a log says is bounded in a message"
    assert found.value.record == 7
    msgspec.json.encode(found.value.to_dict())
