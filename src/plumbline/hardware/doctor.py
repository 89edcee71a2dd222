"""The examination behind `plumb doctor`: each thing that L0 owns, and whether it is enough (L0-01)."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from plumbline.hardware.cpu import CpuDevice
from plumbline.hardware.discovery import DeviceReport
from plumbline.hardware.host.facts import to_json
from plumbline.hardware.host.load import measure_load
from plumbline.hardware.host.readings import read_first_integer, read_text
from plumbline.hardware.work import CallableLaunch

MIN_FREE_BYTES = 1 << 30


class Verdict(StrEnum):
    """What a finding means."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One examined thing: `facts` are measured values, None where unknown."""

    name: str
    verdict: Verdict
    summary: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """Everything that `plumb doctor` shows."""

    findings: tuple[Finding, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is a problem."""
        return all(finding.verdict is not Verdict.PROBLEM for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document; unknown facts read `unknown`."""
        findings = [to_json(dataclasses.asdict(finding)) for finding in self.findings]
        return {"schema": 1, "healthy": self.is_healthy, "findings": findings}


def examine_host(report: DeviceReport, cache_folder: Path) -> DoctorReport:
    """Examine processors, accelerators, memory, storage, fabric, system, drivers, isolation and accounting.

    Args:
        report: what `find_devices` found.
        cache_folder: where compiled code and artifacts are stored; its nearest existing parent is examined.
    """
    examinations: tuple[Callable[[], Finding], ...] = (
        lambda: _processors(report),
        lambda: _accelerators(report),
        lambda: _memory(report),
        lambda: _storage(cache_folder),
        _fabric,
        _system,
        lambda: _drivers(report),
        _isolation,
        _accounting,
    )
    return DoctorReport(findings=tuple(examine() for examine in examinations))


def _processors(report: DeviceReport) -> Finding:
    processor, load = report.host.processor, measure_load(0.05)
    supported = processor.vector_isa is not None
    summary = f"{processor.usable_cores} usable cores, {processor.vector_isa or 'no known vector unit'}"
    facts = {**dataclasses.asdict(processor), "load": dataclasses.asdict(load)}
    return _finding("processors", Verdict.OK if supported else Verdict.PROBLEM, summary, facts)


def _accelerators(report: DeviceReport) -> Finding:
    others = [listing for listing in report.devices if listing.kind != "cpu"]
    present = [listing.kind.value for listing in others if listing.present]
    facts = {listing.kind.value: listing.reason or "present" for listing in others}
    return _finding("accelerators", Verdict.OK, ", ".join(present) or "none that can be used", facts)


def _memory(report: DeviceReport) -> Finding:
    memory = report.host.memory
    available = memory.available_bytes
    low = available is not None and available < MIN_FREE_BYTES
    summary = f"{_gib(available)} of {_gib(memory.total_bytes)} available"
    return _finding("memory", Verdict.WARNING if low else Verdict.OK, summary, dataclasses.asdict(memory))


def _storage(cache_folder: Path) -> Finding:
    existing = next(p for p in (cache_folder, *cache_folder.absolute().parents) if p.is_dir())
    usage = shutil.disk_usage(existing)
    writable = os.access(existing, os.W_OK)
    verdict = Verdict.OK if writable and usage.free >= MIN_FREE_BYTES else Verdict.WARNING
    summary = f"{_gib(usage.free)} free for caches" + ("" if writable else ", not writable")
    return _finding(
        "storage",
        verdict,
        summary,
        {"total_bytes": usage.total, "free_bytes": usage.free, "writable": writable},
    )


def _fabric() -> Finding:
    folder = Path("/sys/class/net")
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    speeds = {name: read_first_integer(folder / name / "speed") for name in names}
    summary = f"{len(names)} network interfaces" if names else "unknown"
    return _finding("fabric", Verdict.OK, summary, {"speed_mbit_per_s": speeds})


def _system() -> Finding:
    facts = {
        "system": platform.system() or None,
        "release": platform.release() or None,
        "python": platform.python_version(),
        "c_library": " ".join(platform.libc_ver()).strip() or None,
    }
    verdict = Verdict.PROBLEM if sys.platform == "win32" else Verdict.OK
    return _finding("operating_system", verdict, f"{facts['system']} {facts['release']}", facts)


def _drivers(report: DeviceReport) -> Finding:
    found = [name for listing in report.devices for name in listing.found]
    facts = {"found": found, "native_linker": shutil.which("cc") is not None}
    return _finding("drivers", Verdict.OK, ", ".join(found) or "no device driver found", facts)


def _isolation() -> Finding:
    status = read_text(Path("/proc/self/status")) or ""
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    facts = {
        "control_group": read_text(Path("/proc/self/cgroup")) is not None or None,
        "seccomp_mode": _integer(fields.get("Seccomp")),
        "no_new_privileges": _integer(fields.get("NoNewPrivs")),
        "administrator": os.geteuid() == 0 if hasattr(os, "geteuid") else None,
    }
    verdict = Verdict.WARNING if facts["administrator"] else Verdict.OK
    summary = "running as administrator" if facts["administrator"] else "ordinary user"
    return _finding("isolation", verdict, summary, facts)


def _accounting() -> Finding:
    """Open a device, use it, and see that every byte and handle comes back."""
    with CpuDevice() as device:
        with device.open_stream("doctor") as stream, device.memory.allocate(4096, label="doctor") as buffer:
            stream.run(CallableLaunch(function=lambda: device.copy_in(buffer, memoryview(b"plumb"))))
            used = device.memory.used_bytes
            read_back = device.copy_out(buffer, 0, 5) == b"plumb"
        facts = {"used_bytes": used, "used_bytes_after": device.memory.used_bytes}
    facts["live_handles_after"] = device.registry.live
    good = read_back and facts == {"used_bytes": 4096, "used_bytes_after": 0, "live_handles_after": 0}
    summary = "every byte and handle came back" if good else "bytes or handles were lost"
    return _finding("accounting", Verdict.OK if good else Verdict.PROBLEM, summary, facts)


def _finding(name: str, verdict: Verdict, summary: str, facts: dict[str, Any]) -> Finding:
    return Finding(name=name, verdict=verdict, summary=summary, facts=facts)


def _gib(size_bytes: int | None) -> str:
    return "unknown" if size_bytes is None else f"{size_bytes / 2**30:.1f} GiB"


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdigit() else None
