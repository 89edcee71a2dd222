"""Memory of this machine and of this process, as the operating system reports it. None means unknown."""

from __future__ import annotations

import mmap
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from plumbline.hardware.host.readings import read_first_integer, read_text, sysctl_integer

PAGE_BYTES = mmap.PAGESIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReading:
    """Bytes now. `total_bytes` and `available_bytes` respect the limit of this process's control group.

    Attributes:
        total_bytes: memory that this process could ever use.
        available_bytes: memory that could be taken now without swapping.
        limit_bytes: the control group's limit; None when there is none or it is unknown.
        resident_bytes: memory of this process that is in RAM.
        page_bytes: size of a page.
    """

    total_bytes: int | None
    available_bytes: int | None
    limit_bytes: int | None
    resident_bytes: int | None
    page_bytes: int


def measure_memory(root: Path = Path("/")) -> MemoryReading:
    """Read the memory of the machine now. `root` replaces the file system root in tests."""
    info = _meminfo(root)
    total, available = info.get("MemTotal"), info.get("MemAvailable")
    if total is None and sys.platform == "darwin":
        total = sysctl_integer("hw.memsize")
    limit, used = _group_limit(root), _group_usage(root)
    if limit is not None and total is not None and limit >= total:
        limit = None
    room = max(0, limit - used) if limit is not None and used is not None else None
    return MemoryReading(
        total_bytes=_smallest(total, limit),
        available_bytes=_smallest(available, room),
        limit_bytes=limit,
        resident_bytes=_resident_bytes(root),
        page_bytes=PAGE_BYTES,
    )


def _smallest(*values: int | None) -> int | None:
    known = [value for value in values if value is not None]
    return min(known) if known else None


def _meminfo(root: Path) -> dict[str, int]:
    values: dict[str, int] = {}
    for line in (read_text(root / "proc/meminfo") or "").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            values[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return values


def _group_limit(root: Path) -> int | None:
    return read_first_integer(
        root / "sys/fs/cgroup/memory.max", root / "sys/fs/cgroup/memory/memory.limit_in_bytes"
    )


def _group_usage(root: Path) -> int | None:
    return read_first_integer(
        root / "sys/fs/cgroup/memory.current", root / "sys/fs/cgroup/memory/memory.usage_in_bytes"
    )


def _resident_bytes(root: Path) -> int | None:
    words = (read_text(root / f"proc/{os.getpid()}/statm") or "").split()
    return int(words[1]) * PAGE_BYTES if len(words) > 1 and words[1].isdigit() else None
