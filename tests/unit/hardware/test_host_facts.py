import hashlib
import time
from pathlib import Path

from plumbline.hardware.host.facts import measure_host
from plumbline.hardware.host.load import load_between, sample_load
from plumbline.hardware.host.memory import measure_memory
from plumbline.hardware.host.processor import measure_processor
from plumbline.hardware.host.readings import parse_cpu_list, parse_size
from plumbline.hardware.host.topology import measure_topology


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_a_machine_that_tells_nothing_is_unknown_not_constant(tmp_path):
    """L0-20: a missing fact reads `unknown`."""
    document = measure_host(tmp_path).to_dict()
    processor, memory = document["processor"], document["memory"]
    assert {processor[name] for name in ("model", "vector_isa", "quota_cores")} == {"unknown"}
    assert {memory[name] for name in ("total_bytes", "available_bytes", "limit_bytes")} == {"unknown"}
    assert (processor["caches"], document["topology"]["nodes"]) == ([], [])


def test_memory_respects_the_limit_of_the_control_group(tmp_path):
    """L0-20, L0-25."""
    info = {"proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 800 kB\n"}
    assert measure_memory(write(tmp_path, info)).total_bytes == 1_024_000
    limits = {"sys/fs/cgroup/memory.max": "512000", "sys/fs/cgroup/memory.current": "112000"}
    reading = measure_memory(write(tmp_path, limits))
    assert (reading.total_bytes, reading.available_bytes, reading.limit_bytes) == (512_000, 400_000, 512_000)
    unlimited = measure_memory(write(tmp_path, {"sys/fs/cgroup/memory.max": "max"}))
    assert (unlimited.total_bytes, unlimited.limit_bytes) == (1_024_000, None)


def test_the_vector_unit_follows_the_flags(tmp_path):
    """L0-19: change the machine, and the reading changes."""
    flags = {
        "avx2 fma": "avx2",
        "avx2": None,
        "avx2 fma avx512f avx512bw avx512dq avx512vl": "avx512",
        "avx2 fma avx512f": "avx2",
    }
    for line, expected in flags.items():
        root = write(tmp_path, {"proc/cpuinfo": f"model name : Test\nflags : {line}\n"})
        assert measure_processor(root).vector_isa == expected
    root = write(tmp_path, {"proc/cpuinfo": "Features : fp asimd\n"})
    assert measure_processor(root).vector_isa == "neon"


def test_topology_follows_the_system_files(tmp_path):
    """L0-24."""
    node = "sys/devices/system/node/node"
    files = {
        f"{node}0/cpulist": "0-1",
        f"{node}0/meminfo": "Node 0 MemTotal: 100 kB",
        f"{node}0/distance": "10 20",
        f"{node}1/cpulist": "2-3",
        f"{node}1/distance": "20 10",
    }
    nodes = measure_topology(write(tmp_path, files)).nodes
    assert [n.processors for n in nodes] == [(0, 1), (2, 3)]
    assert [n.memory_bytes for n in nodes] == [102_400, None]
    assert nodes[1].distances == (20, 10)


def test_load_changes_the_reading():
    """L0-20: a busy process is seen; a constant would not be."""
    idle = sample_load()
    time.sleep(0.05)
    busy = sample_load()
    enough = time.process_time() + 0.1
    while time.process_time() < enough:
        hashlib.sha256(bytes(10_000)).digest()
    after = sample_load()
    resting, working = load_between(idle, busy), load_between(busy, after)
    assert working.process_cores > resting.process_cores + 0.02


def test_using_memory_changes_the_resident_size():
    """L0-20."""
    before = measure_memory().resident_bytes
    if before is None:
        return
    block = bytearray(b"\x01") * (64 << 20)
    after = measure_memory().resident_bytes
    assert after - before > 32 << 20
    assert len(block) == 64 << 20


def test_sizes_and_lists_of_the_kernel_are_read():
    assert [parse_size(text) for text in ("48K", "8M", "64", "", "K", None)] == [
        49152,
        8388608,
        64,
        None,
        None,
        None,
    ]
    assert parse_cpu_list("0,3-5") == (0, 3, 4, 5)
    assert parse_cpu_list(None) == parse_cpu_list("") == ()
