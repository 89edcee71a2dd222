"""Devices of this machine, as `plumb devices` finds them: the numbers are the same (L4-33)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from plumbline.hardware.discovery import CapabilityQuery, DeviceListing, DeviceReport, find_devices
from plumbline.hardware.host.memory import measure_memory
from plumbline.serving.devices.info import DeviceCapabilities, DeviceFacts

__all__ = ["HardwareDevices"]


class HardwareDevices:
    """`DeviceSource` over the hardware. Owns the last report.

    Args:
        capabilities: says what a present device can compute; the composition knows.
    """

    def __init__(self, capabilities: CapabilityQuery) -> None:
        self._query = capabilities
        self._report: DeviceReport | None = None

    def find(self) -> Sequence[DeviceFacts]:
        """Look at the machine. Takes milliseconds: not for the event loop of a busy gateway."""
        self._report = find_devices()
        return tuple(_facts(listing, self._report) for listing in self._report.devices)

    def capabilities(self, facts: DeviceFacts) -> DeviceCapabilities | None:
        """What a present device can compute; None for an absent one."""
        report = self._report
        kinds = [d.kind for d in report.devices if _id(d) == facts.id and d.present] if report else []
        if report is None or not kinds:
            return None
        offered = self._query(kinds[0], report.host)
        return DeviceCapabilities(operators=offered.operators, dtypes=offered.dtypes)

    def available_bytes(self, facts: DeviceFacts) -> int | None:
        """Memory that is free now; None when nobody tells."""
        return measure_memory().available_bytes if facts.present and facts.type == "cpu" else None


def _id(listing: DeviceListing) -> str:
    return listing.label or listing.kind.value


def _facts(listing: DeviceListing, report: DeviceReport) -> DeviceFacts:
    is_cpu = listing.present and listing.kind.value == "cpu"
    host = json.dumps(report.host.to_dict()["processor"], sort_keys=True, default=str) if is_cpu else ""
    return DeviceFacts(
        id=_id(listing),
        type=listing.kind.value,
        present=listing.present,
        name=report.host.processor.model if is_cpu else None,
        memory_total_bytes=report.host.memory.total_bytes if is_cpu else None,
        reason=listing.reason,
        fingerprint=hashlib.sha256(f"{listing.found}{host}".encode()).hexdigest()[:16],
    )
