"""CPU streams with native threads, driven by lane code that these tests bring along."""

import importlib.util
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from plumbline.hardware.cpu import CpuDevice
from plumbline.hardware.handles import HandleForkedError
from plumbline.hardware.lane import LaneCodeMissingError, ThreadStartError
from plumbline.hardware.work import NativeLaunch
from plumbline.testing.devices import DeviceConformance

_SPEC = importlib.util.spec_from_file_location("lane_library", Path(__file__).with_name("lane_library.py"))
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
LIBRARY = _MODULE.LaneLibrary()


class NativeCpuDevice(CpuDevice):
    """Opens every stream with two native threads."""

    def open_stream(self, label, *, threads=2, lane_code=None):
        return super().open_stream(label, threads=threads, lane_code=lane_code or LIBRARY.lane_code)


class TestNativeCpuDevice(DeviceConformance):
    def make_device(self) -> CpuDevice:
        return NativeCpuDevice(capacity_bytes=1 << 24, max_streams=8)


@pytest.fixture
def device():
    with CpuDevice() as device:
        yield device


def native(name: str, context: np.ndarray) -> NativeLaunch:
    return NativeLaunch(entry=LIBRARY.address(name), context=context.ctypes.data, label=name)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_every_thread_of_a_stream_runs_each_launch_once(device, threads):
    """L1-14."""
    context = np.zeros(16, dtype=np.int64)
    runs = 300
    with device.open_stream("s", threads=threads, lane_code=LIBRARY.lane_code) as stream:
        for index in range(runs):
            (stream.run if index % 3 else stream.launch)(native("mark", context))
        stream.synchronize(10)
        stream.quiesce()
    total = runs * (runs + 1) // 2
    assert context[:threads].tolist() == [total] * threads
    assert context[8 : 8 + threads].tolist() == list(range(1, threads + 1))
    assert not context[threads:8].any()


def test_one_thread_needs_no_lane_code(device):
    context = np.zeros(16, dtype=np.int64)
    with device.open_stream("s") as stream:
        stream.run(native("mark", context))
        stream.run(native("mark", context))
    assert (context[0], context[8]) == (3, 1)


def test_several_threads_without_lane_code_are_refused(device):
    with pytest.raises(LaneCodeMissingError):
        device.open_stream("s", threads=2)
    assert device.registry.live == 1


def test_workers_are_joined_when_the_stream_closes(device):
    """L0-07: threads are resources too."""
    before = set(threading.enumerate())
    with device.open_stream("s", threads=4, lane_code=LIBRARY.lane_code):
        assert len(set(threading.enumerate()) - before) == 3
    assert set(threading.enumerate()) <= before


def test_the_interpreter_is_free_while_native_work_runs(device):
    """Two models run at once, and Python goes on."""
    ticks = attempts = 0
    with device.open_stream("s", lane_code=LIBRARY.lane_code) as stream:
        while ticks < 2 and attempts < 50:  # a busy machine may keep this thread out for all of a launch
            attempts += 1
            context = np.array([20_000_000, 0], dtype=np.int64)
            stream.launch(native("spin", context))
            ticks = 0
            while context[1] == 0:
                ticks += 1
                time.sleep(0)
            stream.synchronize(60)
    assert ticks > 1


def test_two_streams_run_native_work_at_the_same_time(device):
    """Each launch ends only when the other has started: one after the other would never end."""
    context = np.zeros(1, dtype=np.int64)
    streams = [device.open_stream(f"s{i}", lane_code=LIBRARY.lane_code) for i in range(2)]
    for stream in streams:
        stream.launch(native("meet", context))
    for stream in streams:
        stream.synchronize(60)
    assert context[0] == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_stream_of_the_parent_is_refused_in_a_forked_child(device):
    """Fork is detected: typed error, no native call, no hang at close."""
    stream = device.open_stream("s", threads=2, lane_code=LIBRARY.lane_code)
    context = np.zeros(16, dtype=np.int64)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            stream.run(native("mark", context))
        except HandleForkedError:
            stream.close()
            device.close()
            code = 42
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 42
    stream.run(native("mark", context))
    assert context[:2].tolist() == [1, 1]


def test_a_process_that_forgets_to_close_a_stream_still_ends():
    """L0-23: parked native threads do not keep or crash the interpreter."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import lane_library\n"
        "from plumbline.hardware.cpu import CpuDevice\n"
        "code = lane_library.LaneLibrary().lane_code\n"
        "kept = CpuDevice().open_stream('s', threads=3, lane_code=code)\n"
        "lost = CpuDevice().open_stream('t', threads=2, lane_code=code); del lost, code\n"
        "import gc; gc.collect()\n"
        "print('end')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", program, str(Path(__file__).parent)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


def test_a_system_without_more_threads_is_a_typed_error(device, monkeypatch):
    """L0-05, L0-07: those that had started are ended."""
    before = set(threading.enumerate())
    start, started = threading.Thread.start, []

    def start_twice(thread):
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_twice)
    with pytest.raises(ThreadStartError):
        device.open_stream("s", threads=4, lane_code=LIBRARY.lane_code)
    assert set(threading.enumerate()) <= before
    assert device.registry.live == 1
