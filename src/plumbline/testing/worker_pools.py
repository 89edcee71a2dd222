"""The suite that every pool of workers passes. Inherit it and say how to make the pool:

    class TestMyPool(WorkerPoolConformance):
        def make_pool(self, **arguments: Any) -> WorkerPool:
            return MyPool(..., **arguments)

`make_pool` is called on the event loop. Its arguments are `options`, `on_event` and `on_done` of the pools in
`serving.workers`; its workers open the versions of `plumbline.testing.worker_sessions`, one launch at a time.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plumbline.contracts.inference import InferenceCall, InferenceResult, VersionRef
from plumbline.contracts.models import VersionKind
from plumbline.contracts.requests import RequestId
from plumbline.contracts.versions import VersionSettings, VersionSpec
from plumbline.engine.outcomes import (
    DeadlineMissed,
    DuplicateRequest,
    RequestCancelled,
    VersionLoadedTwice,
    VersionNotLoaded,
)
from plumbline.errors import PlumblineError, Recoverability
from plumbline.serving.ports import WorkerPool, WorkerState
from plumbline.serving.workers.failures import (
    CallTooLarge,
    IntakeFull,
    PoolStopped,
    ScaleRefused,
    TensorRefused,
    WorkerBroken,
    WorkerUnknown,
)
from plumbline.serving.workers.options import PoolOptions
from plumbline.testing.worker_sessions import RefusedOnPurpose

__all__ = ["ECHO", "WorkerPoolConformance", "call", "in_time", "spec", "values"]

ECHO = VersionRef(model="echo", version="1")
_TIMEOUT_S = 120.0


def spec(
    entry: str = "echo", *, model: str = "echo", folder: Path | None = None, **settings: Any
) -> VersionSpec:
    """A version of `worker_sessions`."""
    return VersionSpec(
        ref=VersionRef(model=model, version="1"),
        kind=VersionKind.MODEL,
        folder=folder or Path(tempfile.gettempdir()),
        entry=entry,
        digest="0" * 64,
        settings=VersionSettings(**settings),
    )


def call(request: str, x: Any = (1.0, 2.0), do: str = "", model: str = "echo", **more: Any) -> InferenceCall:
    """A call of such a version. `do` is what the launch does beside."""
    name = "t" if model == "text" else "x"
    array = x if isinstance(x, np.ndarray) else np.array(x, dtype=object if name == "t" else np.float32)
    parameters = {"do": do} if do else {}
    return InferenceCall(
        id=RequestId(request), model=model, inputs={name: array}, parameters=parameters,
        arrived_ns=time.monotonic_ns(), **more,
    )  # fmt: skip


def values(result: InferenceResult) -> list[float]:
    """What came back."""
    return [float(value) for value in result.outputs["y"]]


def in_time(work: Awaitable[Any], timeout_s: float = _TIMEOUT_S) -> Any:
    """Run to the end, within a bound that only a hang reaches."""

    async def bounded() -> Any:
        return await asyncio.wait_for(work, timeout_s)

    return asyncio.run(bounded())


class WorkerPoolConformance(ABC):
    """What a user of any pool may rely on."""

    @abstractmethod
    def make_pool(self, **arguments: Any) -> WorkerPool:
        """A fresh pool, not started; the suite stops it."""

    def with_pool(self, work: Callable[[WorkerPool], Awaitable[None]], **arguments: Any) -> None:
        """Run `work` on a started pool with the echo loaded."""

        async def run() -> None:
            pool = self.make_pool(**arguments)
            await pool.start()
            try:
                await pool.load(spec())
                await work(pool)
            finally:
                await pool.stop(drain=False, timeout_s=60.0)

        in_time(run())

    # -- calls -----------------------------------------------------------------------------------------------

    def test_a_call_of_a_loaded_version_is_answered_with_its_times(self) -> None:
        """L4-73: arrival, queue, launch and end on one clock."""

        async def work(pool: WorkerPool) -> None:
            result = await pool.infer(ECHO, call("a", [1.0, -2.5]))
            assert values(result) == [1.0, -2.5]
            assert result.id == "a"
            assert result.served_by == ECHO
            at = result.timing
            assert 0 < at.arrived_ns <= at.queued_ns <= at.launched_ns <= at.finished_ns

        self.with_pool(work)

    def test_outputs_stay_what_they_were_when_later_calls_run(self) -> None:
        """L4-72: results are copies, not views of room that is used again."""

        async def work(pool: WorkerPool) -> None:
            first = await pool.infer(ECHO, call("a", [1.0, 2.0]))
            for index in range(20):
                await pool.infer(ECHO, call(f"b{index}", [9.0, 9.0]))
            assert values(first) == [1.0, 2.0]

        self.with_pool(work)

    def test_many_calls_at_once_get_each_its_own_answer_once(self) -> None:
        """X-33: exactly one outcome for each."""
        told: list[str] = []

        async def work(pool: WorkerPool) -> None:
            results = await asyncio.gather(*(pool.infer(ECHO, call(f"r{i}", [i])) for i in range(200)))
            assert [values(result) for result in results] == [[float(i)] for i in range(200)]
            assert sorted(told) == sorted(f"r{i}" for i in range(200))

        self.with_pool(work, on_done=lambda ref, call, outcome: told.append(call.id))

    def test_byte_strings_of_any_content_cross(self) -> None:
        """X-33: values cross as they are, whatever their bytes."""

        texts = [b"", b"plain", b"\x00\xff" * 7, "Grüße".encode()]

        async def work(pool: WorkerPool) -> None:
            await pool.load(spec("text", model="text"))
            result = await pool.infer(VersionRef(model="text", version="1"), call("a", texts, model="text"))
            assert list(result.outputs["u"]) == texts

        self.with_pool(work)

    def test_empty_and_strided_arrays_cross(self) -> None:
        """X-33: no shape is special."""

        async def work(pool: WorkerPool) -> None:
            assert values(await pool.infer(ECHO, call("a", []))) == []
            strided = np.arange(20, dtype=np.float32)[::-3]
            assert values(await pool.infer(ECHO, call("b", strided))) == strided.tolist()

        self.with_pool(work)

    def test_only_wanted_outputs_come_back(self) -> None:
        """L4-73: the wanted outputs, nothing else."""

        async def work(pool: WorkerPool) -> None:
            result = await pool.infer(ECHO, call("a", wanted=("pid",)))
            assert list(result.outputs) == ["pid"]

        self.with_pool(work)

    def test_the_loop_turns_while_calls_run(self) -> None:
        """L4-57: whoever asks about health is answered while a heavy job runs."""

        async def work(pool: WorkerPool) -> None:
            heavy = asyncio.ensure_future(pool.infer(ECHO, call("a", do="sleep:0.5")))
            turns = 0
            while not heavy.done():
                assert pool.workers()[0].state is WorkerState.READY
                await asyncio.sleep(0.001)
                turns += 1
            await heavy
            assert turns > 3, "a loop that is blocked turns once before and once after"

        self.with_pool(work)

    # -- refusals and failures -------------------------------------------------------------------------------

    def test_a_version_that_is_not_loaded_is_refused(self) -> None:
        """X-34: permanent until it is loaded."""

        async def work(pool: WorkerPool) -> None:
            with pytest.raises(VersionNotLoaded):
                await pool.infer(VersionRef(model="none", version="1"), call("a"))

        self.with_pool(work)

    def test_an_error_of_a_session_arrives_as_the_class_that_it_was(self) -> None:
        """X-34: permanent, with its fields."""

        async def work(pool: WorkerPool) -> None:
            with pytest.raises(RefusedOnPurpose) as caught:
                await pool.infer(ECHO, call("a", do="raise:so and so"))
            assert caught.value.what == "so and so"
            assert caught.value.recoverability is Recoverability.PERMANENT
            wrong = InferenceCall(id=RequestId("b"), model="echo", inputs={"z": np.ones(1)})
            with pytest.raises(RefusedOnPurpose, match="inputs"):
                await pool.infer(ECHO, wrong)
            assert values(await pool.infer(ECHO, call("c", [3.0]))) == [3.0]

        self.with_pool(work)

    def test_an_id_that_is_alive_is_refused_and_free_again_after(self) -> None:
        """X-34: ids are unique among the living only."""

        async def work(pool: WorkerPool) -> None:
            first = asyncio.ensure_future(pool.infer(ECHO, call("a", do="sleep:0.3")))
            await asyncio.sleep(0)
            with pytest.raises(DuplicateRequest):
                await pool.infer(ECHO, call("a"))
            await first
            await pool.infer(ECHO, call("a"))

        self.with_pool(work)

    def test_a_full_intake_refuses_at_once_and_takes_calls_again_later(self) -> None:
        """L4-23, X-33: transient, says when to come back."""

        async def work(pool: WorkerPool) -> None:
            running = [
                asyncio.ensure_future(pool.infer(ECHO, call(f"r{i}", do="sleep:0.1"))) for i in range(4)
            ]
            await asyncio.sleep(0)
            with pytest.raises(IntakeFull) as caught:
                await pool.infer(ECHO, call("late"))
            assert caught.value.recoverability is Recoverability.TRANSIENT
            assert caught.value.retry_after_s > 0
            await asyncio.gather(*running)
            await pool.infer(ECHO, call("late"))

        self.with_pool(work, options=PoolOptions(calls_per_worker=4))

    def test_inputs_above_the_limit_are_refused_with_the_numbers(self) -> None:
        """L4-23: a limit at the boundary."""

        async def work(pool: WorkerPool) -> None:
            with pytest.raises(CallTooLarge) as caught:
                await pool.infer(ECHO, call("a", np.ones(1000, dtype=np.float32)))
            assert caught.value.limit_bytes == 2048
            assert caught.value.size_bytes >= 4000

        self.with_pool(work, options=PoolOptions(max_call_bytes=2048))

    def test_values_that_are_no_tensor_of_the_protocol_are_refused(self) -> None:
        """X-34: bad input is normal input."""

        async def work(pool: WorkerPool) -> None:
            with pytest.raises(TensorRefused):
                await pool.infer(ECHO, call("a", np.ones(2, dtype=np.complex64)))
            with pytest.raises(TensorRefused):
                await pool.infer(ECHO, call("b", np.array(["text"], dtype=object)))

        self.with_pool(work)

    def test_an_unknown_worker_is_refused_with_the_known_ones(self) -> None:
        """X-34: never replaced silently by another."""

        async def work(pool: WorkerPool) -> None:
            with pytest.raises(WorkerUnknown, match="w0"):
                await pool.infer(ECHO, call("a"), worker="w99")
            await pool.infer(ECHO, call("b"), worker="w0")

        self.with_pool(work)

    # -- cancellation and time -------------------------------------------------------------------------------

    def test_a_cancelled_call_that_waits_never_runs(self) -> None:
        """L4-72: one typed outcome for a cancelled call."""

        async def work(pool: WorkerPool) -> None:
            first = asyncio.ensure_future(pool.infer(ECHO, call("a", do="sleep:0.6")))
            second = asyncio.ensure_future(pool.infer(ECHO, call("b")))
            await asyncio.sleep(0.02)
            assert pool.cancel(RequestId("b"))
            with pytest.raises(RequestCancelled):
                await second
            await first
            assert not pool.cancel(RequestId("b"))

        self.with_pool(work)

    def test_cancelling_the_waiting_task_cancels_the_call(self) -> None:
        """L4-72: nobody waits, so nothing is run."""

        outcomes: dict[str, object] = {}

        async def work(pool: WorkerPool) -> None:
            first = asyncio.ensure_future(pool.infer(ECHO, call("a", do="sleep:0.6")))
            second = asyncio.ensure_future(pool.infer(ECHO, call("b")))
            await asyncio.sleep(0.02)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            await first
            await pool.infer(ECHO, call("c"))
            assert isinstance(outcomes["b"], RequestCancelled)

        self.with_pool(work, on_done=lambda ref, call, outcome: outcomes.update({call.id: outcome}))

    def test_a_deadline_that_passes_in_the_queue_is_missed_and_never_run(self) -> None:
        """X-33: expired in the queue, never run."""

        async def work(pool: WorkerPool) -> None:
            first = asyncio.ensure_future(pool.infer(ECHO, call("a", do="sleep:0.8")))
            await asyncio.sleep(0.02)
            with pytest.raises(DeadlineMissed):
                await pool.infer(ECHO, call("b", deadline_ns=time.monotonic_ns() + 50_000_000))
            await first

        self.with_pool(work)

    # -- versions --------------------------------------------------------------------------------------------

    def test_metadata_of_a_load_is_that_of_the_session(self) -> None:
        """L4-73: what the worker loaded is what the gateway sees."""

        async def work(pool: WorkerPool) -> None:
            metadata = await pool.load(spec("ballast:4096", model="big"))
            assert metadata.ref == VersionRef(model="big", version="1")
            assert [output.name for output in metadata.outputs] == ["y", "pid"]
            assert metadata.memory_bytes == 4096
            status = pool.workers()[0]
            assert status.versions == ("echo@1", "big@1")
            assert status.memory_bytes == 4096

        self.with_pool(work)

    def test_a_refused_load_leaves_nothing_loaded(self) -> None:
        """L4-23: refused means nothing changed."""

        async def work(pool: WorkerPool) -> None:
            with pytest.raises(RefusedOnPurpose):
                await pool.load(spec("refuse", model="other"))
            with pytest.raises(VersionNotLoaded):
                await pool.infer(VersionRef(model="other", version="1"), call("a", model="other"))
            await pool.load(spec("echo", model="other"))
            await pool.infer(VersionRef(model="other", version="1"), call("a", model="other"))

        self.with_pool(work)

    def test_a_load_that_breaks_by_a_defect_is_typed(self) -> None:
        """X-34: an untyped exception never leaves the port."""

        async def work(pool: WorkerPool) -> None:
            with pytest.raises(WorkerBroken):
                await pool.load(spec("ballast:no number", model="other"))

        self.with_pool(work)

    def test_a_second_load_of_a_loaded_version_is_refused(self) -> None:
        """X-34: a load never replaces another silently."""

        async def work(pool: WorkerPool) -> None:
            with pytest.raises(VersionLoadedTwice):
                await pool.load(spec())

        self.with_pool(work)

    def test_unload_finishes_accepted_calls_and_takes_no_more(self) -> None:
        """L4-72: accepted calls come first."""

        async def work(pool: WorkerPool) -> None:
            calls = [
                asyncio.ensure_future(pool.infer(ECHO, call(f"r{i}", [i], "sleep:0.05"))) for i in range(3)
            ]
            await asyncio.sleep(0)
            unloading = asyncio.ensure_future(pool.unload(ECHO))
            await asyncio.sleep(0.01)
            with pytest.raises(VersionNotLoaded):
                await pool.infer(ECHO, call("late"))
            assert [values(result) for result in await asyncio.gather(*calls)] == [[0.0], [1.0], [2.0]]
            await unloading
            with pytest.raises(VersionNotLoaded):
                await pool.unload(ECHO)
            await pool.load(spec())
            await pool.infer(ECHO, call("again"))

        self.with_pool(work)

    def test_the_sole_worker_of_a_version_is_told_while_it_has_it(self) -> None:
        """L4-67: where there is no choice, none is weighed for every request."""

        async def work(pool: WorkerPool) -> None:
            only = pool.sole_worker(ECHO)
            assert only == pool.workers()[0].name
            assert values(await pool.infer(ECHO, call("r", [1.0]), only)) == [1.0]
            assert pool.sole_worker(VersionRef(model="nobody", version="1")) is None
            await pool.unload(ECHO)
            assert pool.sole_worker(ECHO) is None

        self.with_pool(work)

    # -- end -------------------------------------------------------------------------------------------------

    def test_a_draining_stop_finishes_what_was_accepted(self) -> None:
        """L4-72: nothing accepted is lost at the end."""

        async def work(pool: WorkerPool) -> None:
            calls = [
                asyncio.ensure_future(pool.infer(ECHO, call(f"r{i}", [i], "sleep:0.03"))) for i in range(5)
            ]
            await asyncio.sleep(0)
            await pool.stop(drain=True, timeout_s=60.0)
            assert [values(result) for result in await asyncio.gather(*calls)] == [
                [float(i)] for i in range(5)
            ]
            with pytest.raises(PoolStopped):
                await pool.infer(ECHO, call("late"))

        self.with_pool(work)

    def test_a_stop_without_drain_gives_every_call_a_typed_outcome(self) -> None:
        """L4-72: refused, not dropped."""

        async def work(pool: WorkerPool) -> None:
            calls = [asyncio.ensure_future(pool.infer(ECHO, call(f"r{i}", do="sleep:0.5"))) for i in range(5)]
            await asyncio.sleep(0)
            await pool.stop(drain=False, timeout_s=60.0)
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(outcome, PlumblineError) for outcome in outcomes)

        self.with_pool(work)

    def test_a_ready_worker_says_so(self) -> None:
        """L4-57: state is readable without waiting."""

        events: list[str] = []

        async def work(pool: WorkerPool) -> None:
            status = pool.workers()[0]
            assert (status.name, status.generation, status.state) == ("w0", 1, WorkerState.READY)
            assert events == ["worker.started"]
            with pytest.raises(ScaleRefused):
                await pool.scale(0)

        self.with_pool(work, on_event=lambda kind, subject, **fields: events.append(kind))

    def test_output_is_a_text_and_an_unknown_worker_has_none(self) -> None:
        """L4-57: what a worker printed can be read while it runs."""

        async def work(pool: WorkerPool) -> None:
            assert isinstance(pool.output("w0"), str)
            with pytest.raises(WorkerUnknown):
                pool.output("w77")

        self.with_pool(work)
