"""The life of a device: one table, one pure function (requirement L4-48).

absent -> available <-> draining -> drained -> retired
              `------> lost (unplugged) ------^
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from plumbline.errors import ValidationError

__all__ = ["TRANSITIONS", "DeviceEvent", "DeviceState", "DeviceTransitionRefused", "next_state"]


class DeviceState(StrEnum):
    """Where a device stands."""

    ABSENT = "absent"
    """Its kind was looked for and is not usable here; the reason says why."""
    AVAILABLE = "available"
    DRAINING = "draining"
    """Takes no new work; has some."""
    DRAINED = "drained"
    LOST = "lost"
    """It was there and is gone."""
    RETIRED = "retired"


class DeviceEvent(StrEnum):
    """What can happen to a device."""

    PLUG = "plug"
    UNPLUG = "unplug"
    DRAIN = "drain"
    EMPTY = "empty"
    RESUME = "resume"
    RETIRE = "retire"


TRANSITIONS: dict[tuple[DeviceState, DeviceEvent], DeviceState] = {
    (DeviceState.ABSENT, DeviceEvent.PLUG): DeviceState.AVAILABLE,
    (DeviceState.LOST, DeviceEvent.PLUG): DeviceState.AVAILABLE,
    (DeviceState.RETIRED, DeviceEvent.PLUG): DeviceState.AVAILABLE,
    (DeviceState.AVAILABLE, DeviceEvent.UNPLUG): DeviceState.LOST,
    (DeviceState.DRAINING, DeviceEvent.UNPLUG): DeviceState.LOST,
    (DeviceState.DRAINED, DeviceEvent.UNPLUG): DeviceState.LOST,
    (DeviceState.AVAILABLE, DeviceEvent.DRAIN): DeviceState.DRAINING,
    (DeviceState.DRAINING, DeviceEvent.DRAIN): DeviceState.DRAINING,
    (DeviceState.DRAINED, DeviceEvent.DRAIN): DeviceState.DRAINED,
    (DeviceState.DRAINING, DeviceEvent.EMPTY): DeviceState.DRAINED,
    (DeviceState.DRAINING, DeviceEvent.RESUME): DeviceState.AVAILABLE,
    (DeviceState.DRAINED, DeviceEvent.RESUME): DeviceState.AVAILABLE,
    (DeviceState.DRAINED, DeviceEvent.RETIRE): DeviceState.RETIRED,
    (DeviceState.LOST, DeviceEvent.RETIRE): DeviceState.RETIRED,
}


@dataclass(eq=False, kw_only=True)
class DeviceTransitionRefused(ValidationError):
    """A device was asked for something that its state does not allow. Nothing was changed."""

    code = "validation.device_transition"
    owner = "serving.devices"
    http_status = 409
    template = "device {device!r} is {state}: {event} is not possible"

    device: str
    state: str
    event: str


def next_state(device: str, state: DeviceState, event: DeviceEvent) -> DeviceState:
    """The state that follows.

    Raises:
        DeviceTransitionRefused: the table has no such transition.
    """
    after = TRANSITIONS.get((state, event))
    if after is None:
        raise DeviceTransitionRefused(device=device, state=state.value, event=event.value)
    return after
