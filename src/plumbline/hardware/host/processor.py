"""The processor of this machine, as it reports itself. Nothing is assumed; None or empty means unknown."""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from plumbline.hardware.host.readings import (
    parse_cpu_list,
    parse_size,
    read_first_integer,
    read_text,
    sysctl_integer,
    sysctl_text,
)

_AVX512 = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"})
_AVX2 = frozenset({"avx2", "fma"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheReading:
    """One cache as one core sees it. `shared_by` is the number of logical processors that share it."""

    level: int
    kind: str
    size_bytes: int | None
    line_bytes: int | None
    shared_by: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorReading:
    """What the processor says of itself.

    Attributes:
        architecture: machine name of the operating system, such as `x86_64`.
        model: marketing name.
        flags: instruction set flags, sorted.
        vector_isa: widest vector instruction set that the code generator has a target for: `avx512`, `avx2`,
            `neon`.
        logical_cores: logical processors of the machine.
        usable_cores: logical processors that this process may run on.
        physical_cores: cores among the usable processors, threads of one core counted once.
        quota_cores: processor time that the control group grants, in cores; None when unlimited or unknown.
        caches: caches of the first usable processor.
    """

    architecture: str | None
    model: str | None
    flags: tuple[str, ...]
    vector_isa: str | None
    logical_cores: int | None
    usable_cores: int | None
    physical_cores: int | None
    quota_cores: float | None
    caches: tuple[CacheReading, ...]


def measure_processor(root: Path = Path("/")) -> ProcessorReading:
    """Read the processor. `root` replaces the file system root in tests."""
    information = read_text(root / "proc/cpuinfo") or ""
    flags = _flags(information)
    usable = _usable_processors()
    return ProcessorReading(
        architecture=platform.machine() or None,
        model=_field(information, "model name") or sysctl_text("machdep.cpu.brand_string"),
        flags=flags,
        vector_isa=_vector_isa(frozenset(flags)),
        logical_cores=os.cpu_count(),
        usable_cores=len(usable) or os.cpu_count(),
        physical_cores=_physical_cores(root, usable),
        quota_cores=_quota_cores(root),
        caches=_caches(root, usable[0] if usable else 0),
    )


def _usable_processors() -> tuple[int, ...]:
    if sys.platform != "linux":
        return ()
    return tuple(sorted(os.sched_getaffinity(0)))


def _field(information: str, name: str) -> str | None:
    found = re.search(rf"^{re.escape(name)}\s*:\s*(.+)$", information, re.MULTILINE)
    return found.group(1).strip() if found else None


def _flags(information: str) -> tuple[str, ...]:
    listed = _field(information, "flags") or _field(information, "Features") or ""
    flags = set(listed.split())
    if sysctl_integer("hw.optional.neon") or sysctl_integer("hw.optional.AdvSIMD"):
        flags.add("asimd")
    return tuple(sorted(flags))


def _vector_isa(flags: frozenset[str]) -> str | None:
    if flags >= _AVX512:
        return "avx512"
    if flags >= _AVX2:
        return "avx2"
    return "neon" if "asimd" in flags else None


def _physical_cores(root: Path, usable: tuple[int, ...]) -> int | None:
    cores: set[str] = set()
    for number in usable:
        siblings = read_text(root / f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
        if siblings is None:
            return None
        cores.add(siblings)
    return len(cores) or sysctl_integer("hw.physicalcpu")


def _quota_cores(root: Path) -> float | None:
    words = (read_text(root / "sys/fs/cgroup/cpu.max") or "").split()
    if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
        return int(words[0]) / int(words[1])
    quota = read_first_integer(root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us")
    period = read_first_integer(root / "sys/fs/cgroup/cpu/cpu.cfs_period_us")
    return quota / period if quota and period else None


def _caches(root: Path, processor: int) -> tuple[CacheReading, ...]:
    folder = root / f"sys/devices/system/cpu/cpu{processor}/cache"
    found = [_cache(path) for path in sorted(folder.glob("index[0-9]*"))]
    return tuple(cache for cache in found if cache is not None) or _macos_caches()


def _cache(folder: Path) -> CacheReading | None:
    level = read_first_integer(folder / "level")
    if level is None:
        return None
    sharers = parse_cpu_list(read_text(folder / "shared_cpu_list"))
    return CacheReading(
        level=level,
        kind=(read_text(folder / "type") or "unknown").lower(),
        size_bytes=parse_size(read_text(folder / "size")),
        line_bytes=read_first_integer(folder / "coherency_line_size"),
        shared_by=len(sharers) or None,
    )


def _macos_caches() -> tuple[CacheReading, ...]:
    line = sysctl_integer("hw.cachelinesize")
    names = (
        (1, "data", "hw.l1dcachesize"),
        (1, "instruction", "hw.l1icachesize"),
        (2, "unified", "hw.l2cachesize"),
    )
    sizes = [(level, kind, sysctl_integer(name)) for level, kind, name in names]
    return tuple(
        CacheReading(level=level, kind=kind, size_bytes=size, line_bytes=line, shared_by=None)
        for level, kind, size in sizes
        if size is not None
    )
