"""The gate that every driver call passes: it counts calls and, in tests, makes the n-th one fail."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from plumbline.errors import BackendError, Recoverability, ResourceError


class FaultClass(StrEnum):
    """How an injected driver call fails."""

    OUT_OF_MEMORY = "out_of_memory"
    DEVICE_LOST = "device_lost"
    LAUNCH_FAILURE = "launch_failure"
    EVENT_FAILURE = "event_failure"
    DRIVER_ERROR = "driver_error"


@dataclass(eq=False, kw_only=True)
class DeviceMemoryExhaustedError(ResourceError):
    """The device has no room now; releasing memory and asking again may work."""

    code = "resource.device_memory_exhausted"
    recoverability = Recoverability.TRANSIENT
    owner = "hardware"
    template = "device {device!r} refused {requested_bytes} bytes: {used_bytes} of {capacity_bytes} in use"

    device: str
    requested_bytes: int
    used_bytes: int
    capacity_bytes: int


@dataclass(eq=False, kw_only=True)
class DeviceLostError(BackendError):
    """The device or its driver is gone; the process that owns it must end."""

    code = "backend.device_lost"
    recoverability = Recoverability.FATAL
    owner = "hardware"
    template = "device {device!r} was lost in {operation}"

    device: str
    operation: str


@dataclass(eq=False, kw_only=True)
class DriverCallError(BackendError):
    """A driver call returned an error."""

    code = "backend.driver_call"
    owner = "hardware"
    template = "device {device!r}: {operation} failed ({fault})"

    device: str
    operation: str
    fault: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """Which call of which driver operation fails, counted from 1: `{("allocate", 3): FaultClass...}`."""

    faults: Mapping[tuple[str, int], FaultClass] = field(default_factory=dict)


class DriverGate:
    """Counts driver calls by operation and raises what a fault plan asks for. One gate per device.

    After a lost device every further call fails the same way; releasing calls are still let through, so that
    owners can close what they hold.
    """

    def __init__(self, *, device: str, faults: FaultPlan | None = None) -> None:
        self.device = device
        self._faults = (faults or FaultPlan()).faults
        self._calls: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._lost_in: str | None = None

    @property
    def is_lost(self) -> bool:
        """Whether the device was lost."""
        return self._lost_in is not None

    @property
    def calls(self) -> dict[str, int]:
        """Calls made so far, by operation."""
        with self._lock:
            return dict(self._calls)

    def enter(self, operation: str, *, releasing: bool = False) -> None:
        """Count one call of `operation`.

        Raises:
            DeviceLostError: the device is, or with this call becomes, lost.
            DeviceMemoryExhaustedError, DriverCallError: the fault plan says so.
        """
        with self._lock:
            self._calls[operation] += 1
            fault = self._faults.get((operation, self._calls[operation]))
            if fault is FaultClass.DEVICE_LOST:
                self._lost_in = operation
        if self._lost_in is not None and not releasing:
            raise DeviceLostError(device=self.device, operation=self._lost_in)
        if fault is not None:
            raise self._failure(fault, operation)

    def _failure(self, fault: FaultClass, operation: str) -> BackendError | ResourceError:
        if fault is FaultClass.OUT_OF_MEMORY:
            return DeviceMemoryExhaustedError(
                device=self.device, requested_bytes=0, used_bytes=0, capacity_bytes=0
            )
        if fault is FaultClass.DEVICE_LOST:
            return DeviceLostError(device=self.device, operation=operation)
        return DriverCallError(device=self.device, operation=operation, fault=fault.value)
