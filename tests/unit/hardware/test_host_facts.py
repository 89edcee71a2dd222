import hashlib
import time
from pathlib import Path

from plumbline.hardware.host.facts import measure_host
from plumbline.hardware.host.load import LoadSample, load_between, sample_load
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


def test_load_is_the_processor_time_of_the_interval():
    """L0-20: between two counters, rest is none of a core and work is what was worked."""
    begin = LoadSample(busy_ticks=100, total_ticks=1000, process_ns=5_000_000, time_ns=0)
    rested = LoadSample(busy_ticks=100, total_ticks=1100, process_ns=5_000_000, time_ns=50_000_000)
    worked = LoadSample(busy_ticks=150, total_ticks=1200, process_ns=80_000_000, time_ns=100_000_000)
    resting, working = load_between(begin, rested), load_between(rested, worked)
    assert (resting.process_cores, resting.utilisation, resting.interval_s) == (0.0, 0.0, 0.05)
    assert (working.process_cores, working.utilisation, working.interval_s) == (1.5, 0.5, 0.05)


def test_work_between_two_samples_is_in_the_reading():
    """L0-20: the reading is the processor time that passed, whatever else this process or the machine does.

    The test reads the same clock around the samples and between them, and the reading lies between these two,
    also when other threads work or the machine leaves this one waiting.
    """
    outer = time.process_time()
    first = sample_load()
    inner = time.process_time()
    while time.process_time() < inner + 0.1:
        hashlib.sha256(bytes(10_000)).digest()
    least = time.process_time() - inner
    second = sample_load()
    most = time.process_time() - outer
    reading = load_between(first, second)
    assert least - 1e-6 <= reading.process_cores * reading.interval_s <= most + 1e-6
    assert reading.interval_s == (second.time_ns - first.time_ns) / 1e9


def resident_growth(block_bytes: int) -> int | None:
    """By how much the resident size grew while a block of this size was written and held."""
    before = measure_memory().resident_bytes
    block = bytearray(b"\x01") * block_bytes
    after = measure_memory().resident_bytes
    assert len(block) == block_bytes
    return None if before is None or after is None else after - before


def test_using_memory_changes_the_resident_size():
    """L0-20. What other tests left may be freed meanwhile, so one of some attempts has to show it."""
    growths = (resident_growth(64 << 20) for _ in range(5))
    assert any(growth is None or growth > 32 << 20 for growth in growths)


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
