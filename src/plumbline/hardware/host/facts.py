"""All measured facts of the machine in one value, and its JSON form where unknown reads `unknown`."""

from __future__ import annotations

import dataclasses
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plumbline.hardware.host.memory import MemoryReading, measure_memory
from plumbline.hardware.host.processor import ProcessorReading, measure_processor
from plumbline.hardware.host.topology import Topology, measure_topology

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What was measured of this machine at one moment."""

    system: str | None
    release: str | None
    processor: ProcessorReading
    memory: MemoryReading
    topology: Topology

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; a fact that the machine does not tell is the text `unknown`."""
        return {name: to_json(value) for name, value in dataclasses.asdict(self).items()}


def measure_host(root: Path = Path("/")) -> HostFacts:
    """Measure the machine. `root` replaces the file system root in tests."""
    return HostFacts(
        system=platform.system() or None,
        release=platform.release() or None,
        processor=measure_processor(root),
        memory=measure_memory(root),
        topology=measure_topology(root),
    )


def to_json(value: Any) -> Any:
    """Tuples to lists and None to `unknown`, deeply."""
    if value is None:
        return UNKNOWN
    if isinstance(value, dict):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value
