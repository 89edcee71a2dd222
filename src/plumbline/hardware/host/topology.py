"""Which processors and how much memory lie close to each other (requirement L0-24)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plumbline.hardware.host.readings import parse_cpu_list, read_text


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNode:
    """One NUMA node: its processors, its memory, and its distance to every node in order of number."""

    number: int
    processors: tuple[int, ...]
    memory_bytes: int | None
    distances: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """NUMA nodes in order of number; empty when the system does not say."""

    nodes: tuple[MemoryNode, ...]


def measure_topology(root: Path = Path("/")) -> Topology:
    """Read the NUMA nodes. `root` replaces the file system root in tests."""
    folder = root / "sys/devices/system/node"
    numbers = sorted(int(path.name[4:]) for path in folder.glob("node[0-9]*") if path.name[4:].isdigit())
    return Topology(nodes=tuple(_node(folder / f"node{number}", number) for number in numbers))


def _node(folder: Path, number: int) -> MemoryNode:
    distances = (read_text(folder / "distance") or "").split()
    return MemoryNode(
        number=number,
        processors=parse_cpu_list(read_text(folder / "cpulist")),
        memory_bytes=_memory_bytes(read_text(folder / "meminfo")),
        distances=tuple(int(distance) for distance in distances if distance.isdigit()),
    )


def _memory_bytes(text: str | None) -> int | None:
    for line in (text or "").splitlines():
        name, _, rest = line.partition("MemTotal:")
        words = rest.split()
        if name != line and words and words[0].isdigit():
            return int(words[0]) * 1024
    return None
