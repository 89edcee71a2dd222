"""The suite that every device passes. Inherit it and say how to make the device:

    class TestMyDevice(DeviceConformance):
        def make_device(self) -> Device:
            return MyDevice()

`make_device` must give a device whose memory capacity is at least 64 KiB.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import pytest

from plumbline.errors import PlumblineError
from plumbline.hardware.device import (
    Device,
    EventNotRecordedError,
    ForeignEventError,
    Stream,
    StreamLimitError,
    StreamTimeoutError,
    ThreadCountError,
    UpstreamFailedError,
)
from plumbline.hardware.faults import DeviceMemoryExhaustedError
from plumbline.hardware.handles import HandleClosedError
from plumbline.hardware.memory import AllocationSizeError, BufferRangeError, TenantQuotaError
from plumbline.hardware.work import CallableLaunch, LaunchFailedError

LONG_NS = 50_000_000
TIMEOUT_S = 60.0


def slow_work(function: Callable[[], object]) -> CallableLaunch:
    """Work that takes 50 ms, of real time or of virtual time, before it has its effect."""

    def wait_then_call() -> None:
        time.sleep(LONG_NS / 1e9)
        function()

    return CallableLaunch(function=wait_then_call, label="slow", cost_ns=LONG_NS)


def gated_work(gate: threading.Event, function: Callable[[], object]) -> CallableLaunch:
    """Work that takes 50 ms of virtual time and, in real time, until the gate is opened."""

    def wait_then_call() -> None:
        gate.wait(TIMEOUT_S)
        function()

    return CallableLaunch(function=wait_then_call, label="gated", cost_ns=LONG_NS)


def quick_work(function: Callable[[], object], label: str = "quick") -> CallableLaunch:
    """Work that takes next to no time."""
    return CallableLaunch(function=function, label=label, cost_ns=1_000)


def failing_work() -> CallableLaunch:
    """Work that raises."""

    def fail() -> None:
        raise ZeroDivisionError("planned")

    return CallableLaunch(function=fail, label="failing", cost_ns=1_000)


def _run_until_refused(stream: Stream, errors: list[PlumblineError]) -> None:
    try:
        while True:
            stream.run(quick_work(lambda: None))
    except PlumblineError as error:
        errors.append(error)


class DeviceConformance(ABC):
    """What a user of any device may rely on."""

    @abstractmethod
    def make_device(self) -> Device:
        """A fresh device; the suite closes it."""

    def test_closing_a_device_brings_live_handles_to_zero(self) -> None:
        """L0-03, L0-07: nothing outlives the scope, even when the scope fails."""
        device = self.make_device()
        forgotten: list[object] = []

        def fail_inside() -> None:
            with device, device.open_stream("s") as stream, device.open_event("e") as event:
                forgotten.append(device.memory.allocate(100, label="forgotten"))
                stream.record(event)
                raise KeyError("planned")

        with pytest.raises(KeyError):
            fail_inside()
        assert device.registry.live == 0
        assert device.memory.used_bytes == 0

    def test_many_create_and_fail_cycles_leave_no_handle(self) -> None:
        """L0-07."""
        with self.make_device() as device:
            for _ in range(200):
                with device.open_stream("s") as stream, pytest.raises(LaunchFailedError):
                    stream.run(failing_work())
            assert device.registry.live_by_kind() == {"device": 1}

    def test_using_a_closed_handle_raises(self) -> None:
        """L0-10."""
        device = self.make_device()
        stream, event = device.open_stream("s"), device.open_event("e")
        buffer = device.memory.allocate(64, label="b")
        for handle in (buffer, event, stream, device):
            handle.close()
            handle.close()
        uses: list[Callable[[], object]] = [
            lambda: stream.launch(quick_work(lambda: None)),
            lambda: stream.run(quick_work(lambda: None)),
            lambda: stream.synchronize(),
            event.query,
            lambda: device.copy_out(buffer),
            lambda: device.open_stream("again"),
        ]
        for use in uses:
            with pytest.raises(HandleClosedError):
                use()

    def test_launches_of_one_stream_run_in_order(self) -> None:
        """L1-14: a stream is ordered."""
        done: list[int] = []
        with self.make_device() as device, device.open_stream("s") as stream:
            for number in range(50):
                stream.launch(quick_work(partial(done.append, number)))
            stream.synchronize(TIMEOUT_S)
        assert done == list(range(50))

    def test_launch_returns_before_the_work_is_done(self) -> None:
        """L1-14: the host goes on; waiting gives the result."""
        done: list[str] = []
        gate = threading.Event()
        with self.make_device() as device, device.open_stream("s") as stream:
            stream.launch(gated_work(gate, lambda: done.append("work")))
            assert done == []
            gate.set()
            stream.synchronize(TIMEOUT_S)
        assert done == ["work"]

    def test_run_comes_after_queued_launches(self) -> None:
        """An inline run never overtakes the queue."""
        done: list[str] = []
        with self.make_device() as device, device.open_stream("s") as stream:
            stream.launch(slow_work(lambda: done.append("queued")))
            stream.run(quick_work(lambda: done.append("inline")))
            assert done == ["queued", "inline"]

    def test_a_wait_holds_the_consumer_until_the_producer_is_done(self) -> None:
        """L0-04, L2-25."""
        done: list[str] = []
        with (
            self.make_device() as device,
            device.open_event("ready") as event,
            device.open_stream("producer") as producer,
            device.open_stream("consumer") as consumer,
        ):
            producer.launch(slow_work(lambda: done.append("producer")))
            producer.record(event)
            consumer.wait(event)
            consumer.launch(quick_work(lambda: done.append("consumer")))
            consumer.synchronize(TIMEOUT_S)
            assert event.query()
        assert done == ["producer", "consumer"]

    def test_without_a_wait_the_quick_consumer_comes_first(self) -> None:
        """The test above can fail: streams are independent without an event."""
        done: list[str] = []
        gate = threading.Event()
        with (
            self.make_device() as device,
            device.open_stream("producer") as producer,
            device.open_stream("consumer") as consumer,
        ):
            producer.launch(gated_work(gate, lambda: done.append("producer")))
            consumer.launch(quick_work(lambda: done.append("consumer")))
            consumer.synchronize(TIMEOUT_S)
            gate.set()
            producer.synchronize(TIMEOUT_S)
        assert done == ["consumer", "producer"]

    def test_events_measure_the_time_between_two_points(self) -> None:
        """L0-04."""
        with (
            self.make_device() as device,
            device.open_stream("s") as stream,
            device.open_event("before") as before,
            device.open_event("after") as after,
        ):
            stream.record(before)
            stream.launch(slow_work(lambda: None))
            stream.record(after)
            after.wait(TIMEOUT_S)
            assert LONG_NS * 0.9 <= before.elapsed_ns(after) < LONG_NS * 1000

    def test_an_unrecorded_event_is_refused(self) -> None:
        """L2-28: order is explicit, an empty wait is a mistake."""
        with (
            self.make_device() as device,
            device.open_stream("s") as stream,
            device.open_event("never") as event,
        ):
            assert not event.query()
            with pytest.raises(EventNotRecordedError):
                stream.wait(event)
            with pytest.raises(EventNotRecordedError):
                event.wait(TIMEOUT_S)

    def test_an_event_of_another_device_is_refused(self) -> None:
        """Order between devices goes through the host."""
        with (
            self.make_device() as device,
            self.make_device() as other,
            device.open_stream("s") as stream,
            other.open_event("e") as event,
            pytest.raises(ForeignEventError),
        ):
            stream.record(event)

    def test_a_failed_launch_is_raised_once_at_synchronize_and_skips_what_follows(self) -> None:
        """L0-05."""
        done: list[str] = []
        with self.make_device() as device, device.open_stream("s") as stream:
            stream.launch(slow_work(lambda: done.append("before")))
            stream.launch(failing_work())
            stream.launch(quick_work(lambda: done.append("skipped")))
            with pytest.raises(LaunchFailedError) as caught:
                stream.synchronize(TIMEOUT_S)
            assert isinstance(caught.value.__cause__, ZeroDivisionError)
            stream.run(quick_work(lambda: done.append("after")))
            stream.synchronize(TIMEOUT_S)
        assert done == ["before", "after"]

    def test_a_failed_producer_fails_its_consumer(self) -> None:
        """Nobody computes from data that was never written."""
        done: list[str] = []
        with (
            self.make_device() as device,
            device.open_event("ready") as event,
            device.open_stream("producer") as producer,
            device.open_stream("consumer") as consumer,
        ):
            producer.launch(slow_work(lambda: None))
            producer.launch(failing_work())
            producer.record(event)
            consumer.wait(event)
            consumer.launch(quick_work(lambda: done.append("consumer")))
            with pytest.raises(UpstreamFailedError):
                consumer.synchronize(TIMEOUT_S)
            with pytest.raises(LaunchFailedError):
                producer.synchronize(TIMEOUT_S)
        assert done == []

    def test_a_failing_run_raises_its_own_failure(self) -> None:
        """The inline path is typed too."""
        with self.make_device() as device, device.open_stream("s") as stream:
            with pytest.raises(LaunchFailedError):
                stream.run(failing_work())
            stream.synchronize(TIMEOUT_S)

    def test_synchronize_gives_up_in_time_and_the_work_goes_on(self) -> None:
        """Every wait can have a deadline."""
        done: list[str] = []
        gate = threading.Event()
        with self.make_device() as device, device.open_stream("s") as stream:
            stream.launch(gated_work(gate, lambda: done.append("work")))
            with pytest.raises(StreamTimeoutError):
                stream.synchronize(0.001)
            gate.set()
            stream.synchronize(TIMEOUT_S)
        assert done == ["work"]

    def test_closing_a_stream_skips_queued_work_and_frees_waiters(self) -> None:
        """L0-23: cancel leaves nothing behind."""
        done: list[str] = []
        with self.make_device() as device, device.open_event("ready") as event:
            with device.open_stream("s") as stream:
                stream.launch(slow_work(lambda: done.append("running")))
                for _ in range(20):
                    stream.launch(slow_work(lambda: done.append("queued")))
                stream.record(event)
            with pytest.raises(UpstreamFailedError):
                event.wait(TIMEOUT_S)
            assert device.registry.live_by_kind() == {"device": 1, "event": 1}
        assert len(done) < 21, "a second of work was skipped"

    def test_closing_a_stream_under_a_running_caller_ends_both(self) -> None:
        """L0-23: the caller gets a typed error or its result, and nobody hangs."""
        for _ in range(20):
            device = self.make_device()
            stream = device.open_stream("s")
            errors: list[PlumblineError] = []
            thread = threading.Thread(target=_run_until_refused, args=(stream, errors), daemon=True)
            thread.start()
            time.sleep(0.002)
            device.close()
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()
            assert len(errors) == 1
            assert device.registry.live == 0

    def test_two_threads_share_a_stream_without_losing_work(self) -> None:
        """L2-24."""
        done: list[int] = []
        with self.make_device() as device, device.open_stream("s") as stream:

            def run_many(first: int) -> None:
                for number in range(first, first + 50):
                    stream.run(quick_work(partial(done.append, number)))

            threads = [threading.Thread(target=run_many, args=(first,)) for first in (0, 100)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(TIMEOUT_S)
        assert sorted(done) == [*range(50), *range(100, 150)]
        assert [n for n in done if n < 100] == list(range(50))

    def test_an_impossible_thread_count_is_refused(self) -> None:
        """Limits are named."""
        with self.make_device() as device, pytest.raises(ThreadCountError):
            device.open_stream("s", threads=0)

    def test_more_streams_than_the_device_allows_are_refused(self) -> None:
        """L0-22, X-33: transient, and closing one makes room."""
        with self.make_device() as device:
            streams: list[object] = []

            def open_many() -> None:
                streams.extend(device.open_stream("s") for _ in range(10_000))

            with pytest.raises(StreamLimitError):
                open_many()
            device.registry.close_all("stream")
            device.open_stream("s").close()

    def test_memory_accounts_add_up(self) -> None:
        """L0-09, L0-25: used + free = capacity; tenants sum to used."""
        with self.make_device() as device:
            pool = device.memory
            buffers = [pool.allocate(100 * n, label=f"b{n}", tenant=f"t{n % 2}") for n in range(1, 6)]
            assert pool.used_bytes + pool.free_bytes == pool.capacity_bytes
            assert sum(pool.usage_by_tenant().values()) == pool.used_bytes > 0
            for buffer in buffers:
                buffer.close()
            assert pool.used_bytes == 0
            assert pool.peak_bytes > 0

    def test_more_than_the_capacity_is_refused_with_one_driver_call(self) -> None:
        """L0-11, X-33: no retry, no eviction."""
        with self.make_device() as device, device.memory.allocate(4096, label="kept") as kept:
            device.copy_in(kept, memoryview(b"plumb"))
            before = device.driver_calls["allocate"]
            with pytest.raises(DeviceMemoryExhaustedError) as caught:
                device.memory.allocate(device.memory.capacity_bytes + 1, label="too large")
            assert caught.value.recoverability.value == "transient"
            assert device.driver_calls["allocate"] == before + 1
            assert device.copy_out(kept, 0, 5) == b"plumb"
            assert device.memory.used_bytes == 4096

    def test_an_empty_buffer_is_refused(self) -> None:
        """Sizes are checked at the border."""
        with self.make_device() as device, pytest.raises(AllocationSizeError):
            device.memory.allocate(0, label="empty")

    def test_a_tenant_above_its_quota_is_denied(self) -> None:
        """L0-25."""
        with self.make_device() as device:
            device.memory.set_quota("small", 1024)
            with device.memory.allocate(1024, label="all", tenant="small"):
                with pytest.raises(TenantQuotaError):
                    device.memory.allocate(1, label="more", tenant="small")
                device.memory.allocate(1024, label="other", tenant="large").close()
            device.memory.allocate(1024, label="again", tenant="small").close()

    def test_copies_round_trip_and_are_counted_unless_memory_is_unified(self) -> None:
        """L0-21."""
        data = bytes(range(256)) * 4
        with self.make_device() as device, device.place(memoryview(data), label="b") as buffer:
            assert device.copy_out(buffer) == data
            assert device.copies.copies == (0 if device.unified_memory else 2)

    def test_new_memory_is_zero(self) -> None:
        """No tenant sees another's bytes."""
        with self.make_device() as device:
            with device.place(memoryview(b"\x07" * 4096), label="secret"):
                pass
            with device.memory.allocate(4096, label="next") as buffer:
                assert device.copy_out(buffer) == bytes(4096)

    def test_an_access_outside_a_buffer_is_refused(self) -> None:
        """Ranges are checked."""
        with self.make_device() as device, device.memory.allocate(100, label="b") as buffer:
            with pytest.raises(BufferRangeError):
                device.copy_out(buffer, 90, 11)
            with pytest.raises(BufferRangeError):
                device.copy_in(buffer, memoryview(bytes(101)))

    def test_a_view_of_a_closed_buffer_cannot_be_read(self) -> None:
        """L0-14."""
        with self.make_device() as device, device.memory.allocate(64, label="b") as buffer:
            if not buffer.host_visible:
                with pytest.raises(PlumblineError):
                    buffer.view()
                return
            view = buffer.view()
            buffer.close()
            with pytest.raises(ValueError, match="released"):
                view[0]

    def test_an_array_keeps_its_memory_accounted_after_close(self) -> None:
        """L0-12: bytes are free when nobody can read them any more, not earlier."""
        with self.make_device() as device:
            buffer = device.memory.allocate(256, label="b")
            if not buffer.host_visible:
                buffer.close()
                return
            array = buffer.array("float32", (8,))
            array[:] = 3.0
            buffer.close()
            assert array.sum() == 24.0
            assert device.memory.used_bytes == 256
