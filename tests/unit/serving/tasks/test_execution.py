"""The executor: every task has one end, whatever happens to it (L4-42, L4-44..L4-47, L4-54, L4-58)."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from plumbline.contracts.clock import FakeClock
from plumbline.contracts.identity import LOCAL_PRINCIPAL, Principal, Role
from plumbline.contracts.requests import TenantId
from plumbline.errors import PlumblineError
from plumbline.serving.devices.inventory import DeviceManager
from plumbline.serving.events.bus import EventBus
from plumbline.serving.ports import RuntimeEvent, TaskView
from plumbline.serving.storage.refusals import StoreUnavailable
from plumbline.serving.tasks.cache import CachedResult, ResultCache, ResultKey
from plumbline.serving.tasks.memory_store import MemoryTaskStore
from plumbline.serving.tasks.node import TaskNode, wire_tasks
from plumbline.serving.tasks.options import TaskOptions
from plumbline.serving.tasks.refusals import (
    TaskConflict,
    TaskModelUnknown,
    TaskQueryRefused,
    TaskRequestRefused,
    TaskRequestTooLarge,
    TasksStopping,
    TaskUnknown,
)
from plumbline.serving.tasks.store import QueueLimits, TaskQueueFull
from plumbline.testing.native_parts import FakeInference, FakeModels, SimulatedDevices, VersionNotThere
from plumbline.testing.paced_clock import paced_clock, pass_time

OTHER = Principal(id="k2", tenant=TenantId("other"), roles=frozenset({Role.CLIENT}))
FAST = TaskOptions(slots=2, lease_s=0.4, beat_s=0.05, poll_s=0.02, stall_s=60.0)
HANG_S = 60.0
ENDED = {"succeeded", "failed", "cancelled", "expired"}


@dataclasses.dataclass(slots=True, kw_only=True)
class Bench:
    """One gateway over a store."""

    node: TaskNode
    store: Any
    inference: FakeInference
    models: FakeModels
    bus: EventBus
    devices: DeviceManager
    clock: FakeClock

    async def submit(
        self, who: Principal = LOCAL_PRINCIPAL, task: str | None = None, **fields: Any
    ) -> TaskView:
        return await self.node.manager.submit(who, {**numbers(1.0), **fields}, task)

    async def end(self, view: TaskView, who: Principal = LOCAL_PRINCIPAL) -> dict[str, Any]:
        async with asyncio.timeout(HANG_S):
            while True:
                document = dict((await self.node.manager.read(who, view.id)).document)
                if document["status"] in ENDED:
                    return document
                await asyncio.sleep(0.005)


def numbers(*values: float) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(values)], "data": list(values)}
    return {"model": "double", "inputs": [tensor]}


@asynccontextmanager
async def bench(
    *,
    store: Any = None,
    options: TaskOptions = FAST,
    start: bool = True,
    clock: FakeClock | None = None,
    steps: Callable[[], int] = lambda: 0,
    **inference: Any,
) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as opened:
        clock = clock or await opened.enter_async_context(paced_clock())
        bus, engine, models = EventBus(clock), FakeInference(clock=clock, **inference), FakeModels()
        devices = DeviceManager(SimulatedDevices(), bus, clock)
        devices.refresh()
        store = MemoryTaskStore() if store is None else store
        node = wire_tasks(
            store=store, inference=engine, models=models, allocator=devices.allocator, events=bus,
            clock=clock, options=options, steps=steps,
        )  # fmt: skip
        if start:
            await node.start()
        try:
            yield Bench(
                node=node, store=store, inference=engine, models=models, bus=bus, devices=devices, clock=clock
            )
        finally:
            await node.stop(drain=False, timeout_s=0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(2 * HANG_S):
            await test()

    asyncio.run(bounded())


class SeveredStore:
    """A store as a dead gateway has it: once cut, nothing it writes arrives."""

    def __init__(self, store: MemoryTaskStore) -> None:
        self._store, self.is_cut = store, False

    def __getattr__(self, name: str) -> Any:
        if self.is_cut:
            raise StoreUnavailable(reason="cut", retry_after_s=0.05)
        return getattr(self._store, name)


def test_a_task_runs_and_its_result_is_read_with_who_served_it_and_where() -> None:
    """L4-53, L4-45: result, device of the allocation, released at the end; one trace id (L4-54)."""

    async def test() -> None:
        async with bench() as b:
            trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
            view = await b.node.manager.submit(LOCAL_PRINCIPAL, numbers(1.5, 2.0), traceparent=trace)
            assert view.created
            document = await b.end(view)
            assert document["result"]["outputs"] == [
                {"name": "y", "datatype": "FP32", "shape": [2], "data": [3.0, 4.0]}
            ]
            assert document["served_by"] == "double@1"
            assert document["device"] == document["allocation"]["device"] == "cpu"
            assert document["allocation"]["released_at"] is not None
            assert b.devices.allocator.held() == ()
            carried = b.inference.calls[0].traceparent.split("-")
            assert (carried[1], carried[3]) == ("4bf92f3577b34da6a3ce929d0e0e4736", "01")
            assert carried[2] not in {"00f067aa0ba902b7", "0" * 16}, "the task has a span of its own"
            assert document["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
            assert b.inference.calls[0].id == document["request_id"]

    run(test)


def test_texts_go_to_the_input_that_takes_them() -> None:
    async def test() -> None:
        async with bench() as b:
            view = await b.node.manager.submit(LOCAL_PRINCIPAL, {"model": "reverse@1", "text": ["abc", "de"]})
            document = await b.end(view)
            assert document["result"]["outputs"][0]["data"] == ["cba", "ed"]
            refused = await b.node.manager.submit(LOCAL_PRINCIPAL, {"model": "double", "text": "abc"})
            failed = await b.end(refused)
            assert failed["status"] == "failed"
            assert failed["error"]["code"] == "validation.task_request"

    run(test)


def test_a_failure_of_the_engine_is_the_error_of_the_task() -> None:
    async def test() -> None:
        async with bench(failures=[VersionNotThere(name="double@1")]) as b:
            document = await b.end(await b.submit())
            assert document["status"] == "failed"
            assert document["error"]["code"] == "validation.fake_version"
            assert document["result"] is None

    run(test)


def test_a_bug_under_the_executor_fails_one_task_and_the_next_one_runs() -> None:
    async def test() -> None:
        async with bench(failures=[KeyError("boom")]) as b:
            first = await b.end(await b.submit())
            assert first["error"]["code"] == "execution.task_crashed"
            assert "boom" not in str(first["error"])
            assert (await b.end(await b.submit()))["status"] == "succeeded"

    run(test)


def test_a_transient_refusal_is_waited_out() -> None:
    async def test() -> None:
        async with bench(failures=[StoreUnavailable(reason="full", retry_after_s=0.01)] * 3) as b:
            assert (await b.end(await b.submit()))["status"] == "succeeded"
            assert len(b.inference.calls) == 4

    run(test)


def test_a_transient_refusal_that_stays_fails_the_task_with_it() -> None:
    async def test() -> None:
        options = dataclasses.replace(FAST, max_refusals=2)
        refusals = [StoreUnavailable(reason="full", retry_after_s=0.01)] * 9
        async with bench(options=options, failures=refusals) as b:
            document = await b.end(await b.submit())
            assert document["error"]["code"] == "resource.store_unavailable"
            assert len(b.inference.calls) == 3

    run(test)


def test_the_time_of_a_running_task_ends_it_and_its_inference() -> None:
    """L4-44: time-out."""

    async def test() -> None:
        async with bench(gate=asyncio.Event(), clock=FakeClock(1_000_000_000)) as b:
            view = await b.submit(timeout_s=0.1)
            while not b.inference.calls:
                await asyncio.sleep(0.005)
            b.clock.advance(100_000_000)
            document = await b.end(view)
            assert document["status"] == "expired"
            assert document["error"]["code"] == "resource.task_timeout"
            assert b.inference.cancelled == [document["request_id"]]
            assert b.devices.allocator.held() == ()

    run(test)


def test_a_queued_task_whose_time_is_over_never_runs() -> None:
    async def test() -> None:
        async with bench(gate=asyncio.Event(), options=dataclasses.replace(FAST, slots=1)) as b:
            blocker = await b.submit()
            late = await b.submit(timeout_s=0.05)
            document = await b.end(late)
            assert document["status"] == "expired"
            assert document["claims"] == 0
            assert b.inference.gate is not None
            b.inference.gate.set()
            assert (await b.end(blocker))["status"] == "succeeded"
            assert len(b.inference.calls) == 1

    run(test)


def test_cancelling_ends_a_queued_task_at_once_and_a_running_one_with_its_inference() -> None:
    """L4-34, L4-44; a finished task is returned as it is."""

    async def test() -> None:
        async with bench(gate=asyncio.Event(), options=dataclasses.replace(FAST, slots=1)) as b:
            running = await b.submit()
            while not b.inference.calls:
                await asyncio.sleep(0.005)
            queued = await b.submit()
            assert (await b.node.manager.cancel(LOCAL_PRINCIPAL, queued.id)).state == "cancelled"
            assert (await b.node.manager.cancel(LOCAL_PRINCIPAL, running.id)).document["cancel_requested"]
            document = await b.end(running)
            assert document["status"] == "cancelled"
            assert b.inference.cancelled == [document["request_id"]]
            assert (await b.node.manager.cancel(LOCAL_PRINCIPAL, running.id)).state == "cancelled"

    run(test)


def test_a_cancellation_at_another_gateway_reaches_the_executor() -> None:
    async def test() -> None:
        store = MemoryTaskStore()
        async with bench(store=store, gate=asyncio.Event()) as one, bench(store=store, start=False) as two:
            view = await one.submit()
            while not one.inference.calls:
                await asyncio.sleep(0.005)
            await two.node.manager.cancel(LOCAL_PRINCIPAL, view.id)
            assert (await two.end(view))["status"] == "cancelled"
            assert len(one.inference.cancelled) == 1

    run(test)


def test_the_task_of_a_dead_gateway_is_taken_over_and_its_late_result_is_fenced() -> None:
    """L4-74: at least once executed, exactly one result."""

    async def test() -> None:
        store = MemoryTaskStore()
        severed = SeveredStore(store)
        gate = asyncio.Event()
        async with bench(store=severed, gate=gate) as dead, bench(store=store, start=False) as heir:
            view = await dead.submit(priority=8)
            while not dead.inference.calls:
                await asyncio.sleep(0.005)
            severed.is_cut = True
            await heir.node.start()
            document = await heir.end(view)
            assert document["status"] == "succeeded"
            assert document["claims"] == 2
            severed.is_cut = False
            gate.set()
            await asyncio.sleep(0.3)
            assert (await heir.end(view)) == document
            assert len(heir.inference.calls) == 1

    run(test)


def test_a_live_gateway_keeps_its_long_task() -> None:
    """Its heart beats: longer than the lease, one execution."""

    async def test() -> None:
        store = MemoryTaskStore()
        gate = asyncio.Event()
        async with bench(store=store, gate=gate) as one, bench(store=store) as two:
            view = await one.submit()
            await pass_time(two.clock, 3 * FAST.lease_s)
            gate.set()
            two.inference.gate = gate
            assert (await one.end(view))["claims"] == 1
            assert len(one.inference.calls) + len(two.inference.calls) == 1

    run(test)


def test_a_task_that_every_executor_died_on_is_failed() -> None:
    async def test() -> None:
        store = MemoryTaskStore()
        options = dataclasses.replace(FAST, max_claims=1)
        severed = SeveredStore(store)
        async with bench(store=severed, gate=asyncio.Event(), options=options) as dead:
            view = await dead.submit()
            while not dead.inference.calls:
                await asyncio.sleep(0.005)
            severed.is_cut = True
            async with bench(store=store, options=options) as heir:
                document = await heir.end(view)
                assert document["error"]["code"] == "execution.task_lost"
                assert heir.inference.calls == []

    run(test)


def test_a_gateway_that_stops_gives_its_tasks_back_and_the_next_start_runs_them() -> None:
    """L4-42: state survives a restart; nothing accepted is lost."""

    async def test() -> None:
        store = MemoryTaskStore()
        async with bench(
            store=store, gate=asyncio.Event(), options=dataclasses.replace(FAST, slots=1)
        ) as first:
            views = [await first.submit() for _ in range(3)]
            while not first.inference.calls:
                await asyncio.sleep(0.005)
            await first.node.stop(drain=False, timeout_s=0)
            with pytest.raises(TasksStopping):
                await first.submit()
        async with bench(store=store) as second:
            for view in views:
                assert (await second.end(view))["status"] == "succeeded"

    run(test)


def test_draining_finishes_what_runs() -> None:
    async def test() -> None:
        gate = asyncio.Event()
        async with bench(gate=gate) as b:
            view = await b.submit()
            while not b.inference.calls:
                await asyncio.sleep(0.005)
            stopping = asyncio.create_task(b.node.stop(drain=True, timeout_s=10))
            await asyncio.sleep(0.05)
            gate.set()
            await stopping
            assert (await b.end(view))["status"] == "succeeded"

    run(test)


def test_a_task_without_progress_is_reported_as_stalled_and_one_whose_workers_step_is_not() -> None:
    """L4-46."""

    async def test() -> None:
        options = dataclasses.replace(FAST, stall_s=0.15)
        for steps, is_stalled in ((lambda: 7, True), (iter(range(10**6)).__next__, False)):
            gate = asyncio.Event()
            async with bench(gate=gate, options=options, steps=steps) as b:
                seen: list[RuntimeEvent] = []
                stream = b.bus.subscribe(LOCAL_PRINCIPAL, kinds=["task"])
                view = await b.submit()
                await pass_time(b.clock, 3 * options.stall_s)
                document = (await b.node.manager.read(LOCAL_PRINCIPAL, view.id)).document
                while is_stalled and not document["progress"]["stalled"]:
                    await asyncio.sleep(0.005)
                    document = (await b.node.manager.read(LOCAL_PRINCIPAL, view.id)).document
                assert document["progress"] == {"stage": "running", "stalled": is_stalled}
                gate.set()
                assert not (await b.end(view))["progress"]["stalled"]
                while not seen or seen[-1].kind != "task.succeeded":
                    seen.append(await anext(stream))
                kinds = [event.kind for event in seen]
                assert ("task.stalled" in kinds) is is_stalled
                order = [k for k in kinds if k not in {"task.progress", "task.stalled"}]
                assert order == ["task.accepted", "task.queued", "task.running", "task.succeeded"]
                assert len({event.fields["trace_id"] for event in seen}) == 1

    run(test)


def test_an_identical_call_is_answered_from_the_cache_and_marked() -> None:
    """L4-47; another tenant, other inputs, another content or `cache: false` compute."""

    async def test() -> None:
        async with bench() as b:
            first = await b.end(await b.submit())
            second = await b.end(await b.submit(priority=9, name="again"))
            assert (first["cached"], second["cached"]) == (False, True)
            assert second["result"] == first["result"]
            assert second["served_by"] == "double@1"
            assert second["device"] is None, "no device was used"
            assert len(b.inference.calls) == 1
            assert not (await b.end(await b.submit(OTHER), OTHER))["cached"]
            assert not (await b.end(await b.submit(**numbers(2.0))))["cached"]
            assert not (await b.end(await b.submit(cache=False)))["cached"]
            assert not (await b.end(await b.submit(parameters={"a": 1})))["cached"]
            b.models.digest = "1" * 64
            assert not (await b.end(await b.submit()))["cached"]

    run(test)


def test_a_kept_result_ends_with_its_time_and_the_least_used_goes_when_memory_is_short() -> None:
    """L4-58, with a clock that only moves when told."""
    clock, cache = FakeClock(), ResultCache(ttl_ns=100, max_bytes=10)

    def key(inputs: str, tenant: str = "a") -> ResultKey:
        return ResultKey(tenant=TenantId(tenant), version="m@1", content="c", inputs=inputs)

    cache.keep(key("x"), CachedResult(body="12345", served_by="m@1"), clock.now_ns())
    clock.advance(99)
    assert cache.find(key("x"), clock.now_ns()) is not None
    assert cache.find(key("x", tenant="b"), clock.now_ns()) is None
    clock.advance(1)
    assert cache.find(key("x"), clock.now_ns()) is None
    assert cache.size_bytes == 0
    for name in ("p", "q"):
        cache.keep(key(name), CachedResult(body="12345", served_by="m@1"), clock.now_ns())
    cache.find(key("p"), clock.now_ns())
    cache.keep(key("r"), CachedResult(body="1", served_by="m@1"), clock.now_ns())
    assert cache.find(key("q"), clock.now_ns()) is None
    assert cache.find(key("p"), clock.now_ns()) is not None
    cache.keep(key("big"), CachedResult(body="1" * 11, served_by="m@1"), clock.now_ns())
    assert cache.find(key("big"), clock.now_ns()) is None
    assert cache.size_bytes == 6


def test_the_same_put_gives_the_same_task_and_another_one_is_refused() -> None:
    """L4-34: idempotent create; also after the task ended."""

    async def test() -> None:
        async with bench() as b:
            first = await b.submit(task="mine")
            assert first.created
            await b.end(first)
            again = await b.submit(task="mine")
            assert not again.created
            assert again.document["result"] is not None
            with pytest.raises(TaskConflict, match="another request"):
                await b.submit(task="mine", priority=6)
            assert (await b.submit(OTHER, task="mine", priority=6)).created
            assert len([c for c in b.inference.calls if c.tenant == "local"]) == 1

    run(test)


def test_a_tenant_can_neither_read_nor_cancel_nor_list_the_task_of_another() -> None:
    """X-63: not even whether it exists."""

    async def test() -> None:
        async with bench(start=False) as b:
            view = await b.submit()
            for attempt in (b.node.manager.read, b.node.manager.cancel):
                with pytest.raises(TaskUnknown):
                    await attempt(OTHER, view.id)
            assert (await b.node.manager.list(OTHER, state=None, limit=9, cursor=None))[0] == []

    run(test)


def test_lists_have_pages_and_refuse_what_is_not_a_query() -> None:
    async def test() -> None:
        async with bench(start=False) as b:
            ids = [(await b.submit()).id for _ in range(5)]
            seen, cursor = [], None
            while True:
                views, cursor = await b.node.manager.list(
                    LOCAL_PRINCIPAL, state="queued", limit=2, cursor=cursor
                )
                seen += [view.id for view in views]
                assert all(view.document["result"] is None for view in views)
                if cursor is None:
                    break
            assert seen == ids[::-1]
            for query in (
                {"state": "done"},
                {"limit": 0},
                {"limit": 501},
                {"cursor": "x"},
                {"cursor": "9" * 19 + "-a"},
            ):
                asked: dict[str, Any] = {"state": None, "limit": 5, "cursor": None, **query}
                with pytest.raises(TaskQueryRefused):
                    await b.node.manager.list(LOCAL_PRINCIPAL, **asked)

    run(test)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"model": "nobody"}, TaskModelUnknown),
        ({"device": "cuda"}, PlumblineError),
        ({"priority": 10}, TaskRequestRefused),
        ({"priority": True}, TaskRequestRefused),
        ({"timeout_s": 0}, TaskRequestRefused),
        ({"timeout_s": float("nan")}, TaskRequestRefused),
        ({"operation": "train"}, TaskRequestRefused),
        ({"surprise": 1}, TaskRequestRefused),
        ({"text": ["both"]}, TaskRequestRefused),
        ({"inputs": []}, TaskRequestRefused),
        ({"model": "@1"}, TaskRequestRefused),
        ({"name": "x" * 201}, TaskRequestRefused),
        ({"name": "\ud800"}, TaskRequestRefused),
        ({"parameters": {"a": float("inf")}}, TaskRequestRefused),
        ({"parameters": {"a": object()}}, TaskRequestRefused),
        ({"parameters": {"a": "x" * 5_000_000}}, TaskRequestTooLarge),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1.0]}]}, PlumblineError),
        ({"inputs": [{"name": "x", "datatype": "INT8", "shape": [1], "data": [300]}]}, PlumblineError),
        ({"inputs": [{"name": "x", "datatype": "INT64", "shape": [1], "data": [2**70]}]}, PlumblineError),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": ["1"]}]}, PlumblineError),
        ({"inputs": [{"name": "x", "datatype": "F", "shape": [1], "data": [1]}]}, PlumblineError),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_a_request_that_cannot_be_run_is_refused_and_not_kept(
    change: dict[str, Any], error: type[PlumblineError]
) -> None:
    """L4-27, L4-52: a 4xx with its reason."""

    async def test() -> None:
        async with bench(start=False) as b:
            with pytest.raises(error) as caught:
                await b.submit(**change)
            assert 400 <= caught.value.http_status < 500
            assert await b.store.depth() == 0

    run(test)


def test_every_field_of_a_request_changes_what_is_done() -> None:
    """L4-52."""

    async def test() -> None:
        async with bench() as b:
            view = await b.submit(
                priority=9,
                outputs=["y"],
                parameters={"k": [1]},
                device="cpu",
                version="1",
                name="<b>",
                timeout_s=9,
            )
            document = await b.end(view)
            call = b.inference.calls[0]
            assert (call.priority, call.wanted, call.parameters) == (9, ("y",), {"k": [1]})
            assert call.version == "1"
            assert call.deadline_ns is not None
            assert document["allocation"]["strategy"] == "pinned"
            assert (document["name"], document["priority"], document["device_preference"]) == (
                "<b>",
                9,
                "cpu",
            )
            free = await b.end(await b.submit(**numbers(3.0)))
            assert free["allocation"]["strategy"] == "least_loaded"

    run(test)


def test_a_result_that_is_too_large_is_a_typed_failure() -> None:
    async def test() -> None:
        async with bench(options=dataclasses.replace(FAST, max_result_bytes=20)) as b:
            document = await b.end(await b.submit())
            assert document["error"]["code"] == "resource.task_result_too_large"

    run(test)


def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    async def test() -> None:
        options = dataclasses.replace(FAST, limits=QueueLimits(queued=2, queued_of_tenant=2))
        async with bench(start=False, options=options) as b:
            for _ in range(2):
                await b.submit()
            with pytest.raises(TaskQueueFull) as caught:
                await b.submit()
            assert caught.value.http_status == 429

    run(test)


def test_a_finished_task_is_forgotten_after_its_retention() -> None:
    async def test() -> None:
        options = dataclasses.replace(FAST, retention_s=0.1)
        async with bench(options=options) as b:
            view = await b.submit()
            async with asyncio.timeout(HANG_S):
                while True:
                    try:
                        await b.node.manager.read(LOCAL_PRINCIPAL, view.id)
                    except TaskUnknown:
                        break
                    await asyncio.sleep(0.02)
            assert len(b.inference.calls) == 1

    run(test)


def test_values_that_json_lacks_come_back_as_words() -> None:
    async def test() -> None:
        async with bench() as b:
            document = await b.end(await b.submit(**numbers(3e38, -3e38)))
            assert document["result"]["outputs"][0]["data"] == ["Infinity", "-Infinity"]

    run(test)


def test_a_store_that_is_away_for_a_moment_loses_nothing() -> None:
    async def test() -> None:
        severed = SeveredStore(MemoryTaskStore())
        gate = asyncio.Event()
        async with bench(store=severed, gate=gate) as b:
            view = await b.submit()
            while not b.inference.calls:
                await asyncio.sleep(0.005)
            severed.is_cut = True
            await asyncio.sleep(0.12)
            severed.is_cut = False
            gate.set()
            assert (await b.end(view))["status"] == "succeeded"

    run(test)
