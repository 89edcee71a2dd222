"""A clock for tests of leases, beats and time limits on an event loop, whatever the machine does meanwhile.

Real time passes while a process waits for a core, and then everything that was due comes at once: a lease
lapses although its owner was never late. This clock stands still then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from plumbline.contracts.clock import FakeClock

__all__ = ["paced_clock", "pass_time"]

_LOOK_S = 0.002
_MOST_NS = 5_000_000


@asynccontextmanager
async def paced_clock() -> AsyncIterator[FakeClock]:
    """A clock that moves with real time, and at most 5 ms with every turn of the event loop."""
    clock = FakeClock(1_000_000_000)
    pacing = asyncio.create_task(_pace(clock))
    try:
        yield clock
    finally:
        pacing.cancel()
        await asyncio.wait({pacing})


async def pass_time(clock: FakeClock, seconds: float) -> None:
    """Wait until a paced clock has moved on by so much."""
    end_ns = clock.now_ns() + round(seconds * 1e9)
    while clock.now_ns() < end_ns:
        await asyncio.sleep(_LOOK_S)


async def _pace(clock: FakeClock) -> None:
    loop = asyncio.get_running_loop()
    while True:
        before_s = loop.time()
        await asyncio.sleep(_LOOK_S)
        clock.advance(min(round((loop.time() - before_s) * 1e9), _MOST_NS))
