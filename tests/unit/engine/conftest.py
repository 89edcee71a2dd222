"""Engines around fakes, stopped when the test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from plumbline.contracts.clock import MonotonicClock
from plumbline.contracts.inference import VersionRef
from plumbline.engine.lanes import LanePool
from plumbline.engine.scheduler import Scheduler
from plumbline.scheduling.policies.fifo import FifoPolicy

ECHO = VersionRef(model="echo", version="1")


@pytest.fixture
def ref() -> VersionRef:
    return ECHO


@pytest.fixture
def engine() -> Iterator[Callable[..., Scheduler]]:
    """Makes engines that verify thread roles; all are closed at the end."""
    made: list[Scheduler] = []

    def make(*, lanes: int = 1, inline: bool = True, **more: Any) -> Scheduler:
        more.setdefault("policy", FifoPolicy())
        more.setdefault("clock", MonotonicClock())
        scheduler = Scheduler(streams=LanePool(lanes, inline=inline), debug=True, **more)
        made.append(scheduler)
        return scheduler

    yield make
    for scheduler in made:
        scheduler.close()
