"""Readiness: a worker that makes progress, versions that serve, and what else inference needs (L4-31)."""

from __future__ import annotations

from plumbline.serving.health import EngineHealth
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
