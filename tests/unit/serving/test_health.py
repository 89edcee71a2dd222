"""Readiness: a worker that makes progress, versions that serve, and what else inference needs (L4-31)."""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import VersionState, VersionStatus
from plumbline.serving.health import EngineHealth
from plumbline.serving.ports import WorkerState, WorkerStatus
from plumbline.testing.fake_pool import FakePool


def test_a_failed_check_makes_the_server_not_ready_with_its_reason_until_it_passes() -> None:
    trouble = [""]
    health = EngineHealth(FakePool(), list, {"the log": lambda: trouble[0], "another": lambda: ""})
    health.started()
    assert health.readiness()[0]

    trouble[0] = "No space left on device"
    is_ready, facts = health.readiness()
    assert not is_ready
    assert facts["reasons"] == ["the log: No space left on device"]
    assert health.is_live()

    trouble[0] = ""
    assert health.readiness()[0]


class PoolWithLog(FakePool):
    """One worker, whose decision log may have trouble."""

    trouble, missed = "", 0

    def workers(self) -> Sequence[WorkerStatus]:
        return (
            WorkerStatus(
                name="w0", generation=1, pid=1, state=WorkerState.READY, log_trouble=self.trouble,
                missed_decisions=self.missed,
            ),
        )  # fmt: skip


def test_what_inference_can_do_without_is_told_as_degraded_and_readiness_stays() -> None:
    """L4-31: a worker that cannot record answers all the same, and no inference waits for the tasks."""
    pool, store = PoolWithLog(), [""]
    health = EngineHealth(pool, list, {"routes": lambda: ""}, conveniences={"the store": lambda: store[0]})
    health.started()
    assert health.readiness() == (True, {"reasons": [], "degraded": [], "workers": {"w0": "ready"}})
    assert health.components() == {"routes": "", "the store": "", "the decision log of w0": ""}

    pool.trouble, pool.missed, store[0] = "No space left on device", 7, "accepting: SQLITE_FULL"
    is_ready, facts = health.readiness()
    assert is_ready
    assert facts["degraded"] == [
        "the store: accepting: SQLITE_FULL",
        "the decision log of w0: No space left on device, 7 decisions missed",
    ]
    pool.trouble, store[0] = "", ""
    assert health.readiness()[1]["degraded"] == [], "decisions that were missed once are a metric, no state"


def test_hundreds_of_versions_that_do_not_serve_are_told_in_a_bounded_answer() -> None:
    statuses = [
        VersionStatus(
            ref=VersionRef(model="m", version=str(number)), state=VersionState.FAILED, reason="broken",
            since_wall_ns=0,
        )
        for number in range(800)
    ]  # fmt: skip
    health = EngineHealth(FakePool(), lambda: statuses, absent=lambda: [str(s.ref) for s in statuses])
    health.started()
    reasons = health.readiness()[1]["reasons"]
    assert reasons[0] == "m@0 is failed: broken"
    assert (reasons[20], reasons[-1], len(reasons)) == (
        "780 more versions do not serve", "780 more are not back", 42,
    )  # fmt: skip
