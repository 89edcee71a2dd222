"""Many jobs share one device without exceeding its streams or bytes (L0-22, L0-23, X-33)."""

import threading

import pytest

from plumbline.errors import Recoverability, ResourceError
from plumbline.hardware.cpu import CpuDevice
from plumbline.hardware.simulated import SimulatedDevice
from plumbline.hardware.stream_pool import StreamPool, StreamPoolBusyError
from plumbline.hardware.work import LaunchFailedError
from plumbline.testing.devices import failing_work, quick_work


@pytest.fixture(params=[CpuDevice, SimulatedDevice], ids=["cpu", "simulated"])
def device(request):
    with request.param(capacity_bytes=8192, max_streams=2) as device:
        yield device


def test_parallel_jobs_never_exceed_streams_or_bytes(device):
    """L0-22."""
    done, refused, in_use, most = [], [], set(), []
    lock = threading.Lock()

    def job(number: int) -> None:
        for _ in range(20):
            with pool.borrow(60) as stream:
                with lock:
                    assert stream not in in_use
                    in_use.add(stream)
                    most.append(len(in_use))
                try:
                    with device.memory.allocate(4096, label=f"job {number}", tenant=f"t{number}"):
                        stream.run(quick_work(lambda: done.append(number)))
                except ResourceError:
                    refused.append(number)
                with lock:
                    in_use.remove(stream)

    with StreamPool(lambda number: device.open_stream(f"s{number}"), size=2) as pool:
        threads = [threading.Thread(target=job, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert pool.idle == 2
    assert len(done) + len(refused) == 120
    assert refused == []
    assert max(most) <= 2
    assert device.memory.peak_bytes <= 8192
    assert device.registry.live_by_kind() == {"device": 1}


def test_a_refused_allocation_succeeds_after_a_release(device):
    """X-33: transient means that a retry can work."""
    first = device.memory.allocate(8192, label="all")
    with pytest.raises(ResourceError) as caught:
        device.memory.allocate(1, label="more")
    assert caught.value.recoverability is Recoverability.TRANSIENT
    first.close()
    device.memory.allocate(1, label="more").close()


def test_a_busy_pool_refuses_in_time_and_serves_again(device):
    with StreamPool(lambda number: device.open_stream(f"s{number}"), size=1) as pool:
        with pool.borrow(1), pytest.raises(StreamPoolBusyError), pool.borrow(0.01):
            pass
        with pool.borrow(1) as stream:
            stream.run(quick_work(lambda: None))


def test_a_job_that_fails_returns_its_stream_usable(device):
    """L0-23: usage is back to the baseline."""
    with StreamPool(lambda number: device.open_stream(f"s{number}"), size=1) as pool:
        with pytest.raises(LaunchFailedError), pool.borrow(1) as stream:
            stream.launch(failing_work())
        with pool.borrow(1) as stream:
            stream.run(quick_work(lambda: None))
    assert device.registry.live_by_kind() == {"device": 1}


def test_a_pool_that_cannot_open_all_its_streams_opens_none(device):
    with pytest.raises(ResourceError):
        StreamPool(lambda number: device.open_stream(f"s{number}"), size=3)
    assert device.registry.live_by_kind() == {"device": 1}
