"""Which device a task gets: strategies are pure functions in one table (requirement L4-50)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from plumbline.errors import Recoverability, ResourceError, ValidationError

__all__ = [
    "STRATEGIES",
    "Candidate",
    "DevicePreferenceRefused",
    "NoDeviceAvailable",
    "Strategy",
    "decide_device",
]


class Strategy(StrEnum):
    """How a device is chosen."""

    FIRST_FIT = "first_fit"
    LEAST_LOADED = "least_loaded"
    PINNED = "pinned"
    """The one that the task asked for, or a refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A device to choose from. `load` counts its allocations; `status` says why it may not take one."""

    id: str
    status: str
    load: int
    reason: str = ""

    @property
    def is_available(self) -> bool:
        """Whether it takes work."""
        return self.status == "available"


@dataclass(eq=False, kw_only=True)
class DevicePreferenceRefused(ValidationError):
    """The device that was asked for cannot be had. No other is chosen in its place."""

    code = "validation.device_preference"
    owner = "serving.devices"
    http_status = 409
    template = "device {device!r} was asked for and is {status}: {reason}"

    device: str
    status: str
    reason: str


@dataclass(eq=False, kw_only=True)
class NoDeviceAvailable(ResourceError):
    """Every device is drained, lost or absent."""

    code = "resource.no_device"
    recoverability = Recoverability.TRANSIENT
    owner = "serving.devices"
    template = "no device takes work now; try again in {retry_after_s} s"

    retry_after_s: float = 5.0


def decide_device(
    candidates: Sequence[Candidate], strategy: Strategy, preference: str | None
) -> tuple[Candidate, Strategy]:
    """The device for a task, and the strategy that chose it; a preference always means `pinned`.

    Raises:
        DevicePreferenceRefused: the preferred device is unknown or takes no work.
        NoDeviceAvailable: none takes work.
    """
    if preference is not None:
        return _pinned(candidates, preference), Strategy.PINNED
    fitting = [candidate for candidate in candidates if candidate.is_available]
    if not fitting:
        raise NoDeviceAvailable()
    return STRATEGIES[strategy](fitting), strategy


def _first_fit(fitting: Sequence[Candidate]) -> Candidate:
    return fitting[0]


def _least_loaded(fitting: Sequence[Candidate]) -> Candidate:
    return min(fitting, key=lambda candidate: candidate.load)


def _pinned(candidates: Sequence[Candidate], preference: str) -> Candidate:
    for candidate in candidates:
        if candidate.id == preference:
            if candidate.is_available:
                return candidate
            reason = candidate.reason or "it takes no work"
            raise DevicePreferenceRefused(device=preference, status=candidate.status, reason=reason)
    known = ", ".join(candidate.id for candidate in candidates)
    raise DevicePreferenceRefused(device=preference, status="unknown", reason=f"there are {known}")


STRATEGIES: dict[Strategy, Callable[[Sequence[Candidate]], Candidate]] = {
    Strategy.FIRST_FIT: _first_fit,
    Strategy.LEAST_LOADED: _least_loaded,
}
