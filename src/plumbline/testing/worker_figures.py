"""What a pool of worker processes costs: `python -m plumbline.testing.worker_figures [--uvloop]`.

Prints round-trip times of one call after another, and calls per second with 32 in flight, of an echo of 16
values on one worker, as JSON. Figures are of a machine at a moment; nothing here asserts on them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

import numpy as np

from plumbline.contracts.inference import InferenceCall
from plumbline.contracts.requests import RequestId
from plumbline.serving.workers.pool import ProcessPool
from plumbline.testing.worker_pools import ECHO, spec

__all__ = ["main", "measure"]

_X = np.arange(16, dtype=np.float32)


def _call(request: str) -> InferenceCall:
    return InferenceCall(id=RequestId(request), model="echo", inputs={"x": _X})


async def measure(alone: int, together: int, in_flight: int) -> dict[str, float]:
    """Figures of `alone` calls one by one, then of `together` calls with `in_flight` at once."""
    pool = ProcessPool((sys.executable, "-m", "plumbline.testing.worker_entry"))
    await pool.start()
    try:
        await pool.load(spec())
        times_us = sorted([await _round_trip_us(pool, f"a{index}") for index in range(alone)])
        numbers = iter(range(together))

        async def caller() -> None:
            for number in numbers:
                await pool.infer(ECHO, _call(f"b{number}"))

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(in_flight)))
        rate = together / (time.perf_counter() - began)
    finally:
        await pool.stop(drain=True, timeout_s=10.0)
    return {
        "round_trip_us_p50": round(times_us[len(times_us) // 2], 1),
        "round_trip_us_p99": round(times_us[len(times_us) * 99 // 100], 1),
        "calls_per_s": round(rate),
        "in_flight": in_flight,
    }


async def _round_trip_us(pool: ProcessPool, request: str) -> float:
    began_ns = time.perf_counter_ns()
    await pool.infer(ECHO, _call(request))
    return (time.perf_counter_ns() - began_ns) / 1e3


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="What a pool of worker processes costs.")
    parser.add_argument("--alone", type=int, default=3000)
    parser.add_argument("--together", type=int, default=20000)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--uvloop", action="store_true")
    asked = parser.parse_args()
    work = measure(asked.alone, asked.together, asked.in_flight)
    if asked.uvloop:
        import uvloop

        figures = uvloop.run(work)
    else:
        figures = asyncio.run(work)
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
