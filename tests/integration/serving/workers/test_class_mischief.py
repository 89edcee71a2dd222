"""What a class does to its worker beside its work ends, has a typed outcome, and no other victims (X-31)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plumbline.contracts.inference import InferenceCall
from plumbline.contracts.models import VersionKind
from plumbline.contracts.requests import RequestId
from plumbline.contracts.versions import VersionSpec
from plumbline.engine.sessions.python import ClassFailed
from plumbline.product.serving.options import WorkerOptions
from plumbline.product.serving.worker import worker_command
from plumbline.serving.workers.options import PoolOptions
from plumbline.serving.workers.pool import ProcessPool
from plumbline.testing.worker_pools import in_time, spec, values

QUICK = PoolOptions(backoff_s=0.02, max_backoff_s=0.2, watch_interval_s=0.02, stall_floor_s=60.0)
REFUSES_ZERO = """
class Odd:
    inputs = {"x": ("FP32", (-1,))}

    def run(self, inputs, parameters):
        if not inputs["x"].all():
            raise ValueError(f"no zeros, not even {inputs['x'][0]}")
        return {"y": inputs["x"]}
"""


def version_of(folder: Path, source: str, **settings: Any) -> VersionSpec:
    """The class `Odd` of this source."""
    (folder / "model.py").write_text(source)
    made = spec("model.py:Odd", model="odd", folder=folder, **settings)
    return VersionSpec(
        ref=made.ref, kind=VersionKind.PYTHON, folder=folder, entry="model.py:Odd", digest="0" * 64,
        settings=made.settings,
    )  # fmt: skip


def ask(name: str, do: str = "", x: float = 1.0) -> InferenceCall:
    """A call of it."""
    return InferenceCall(
        id=RequestId(name), model="odd", inputs={"x": np.array([x], np.float32)}, parameters={"do": do}
    )


def with_pool(work: Callable[[ProcessPool], Awaitable[None]], options: PoolOptions = QUICK) -> None:
    """A pool of one worker that runs classes."""

    async def run() -> None:
        pool = ProcessPool(worker_command(WorkerOptions(allow_code=True)), options=options)
        await pool.start()
        try:
            await work(pool)
        finally:
            await pool.stop(drain=False, timeout_s=60.0)

    in_time(run())


def test_a_class_that_fails_on_the_example_of_its_load_says_text_and_line(tmp_path: Path) -> None:
    """The input there is our own; what a client's input made it say stays inside."""
    version = version_of(tmp_path, REFUSES_ZERO)

    async def work(pool: ProcessPool) -> None:
        with pytest.raises(ClassFailed, match=r"raised ValueError: no zeros, .* 0\.0 \(model\.py line 7\)"):
            await pool.load(version)
        (tmp_path / "model.py").write_text(
            REFUSES_ZERO.replace("not inputs", "7.0 in inputs").replace(".all()", "")
        )
        await pool.load(version)
        with pytest.raises(ClassFailed, match=r"raised ValueError$"):
            await pool.infer(version.ref, ask("client", x=7.0))
        assert values(await pool.infer(version.ref, ask("other", x=2.0))) == [2.0]

    with_pool(work)
