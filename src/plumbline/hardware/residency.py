"""Lifecycle of a model's weights on a device (requirement L0-13).

    absent --load--> loading --loaded--> resident --evict--> evicting --evicted--> absent
                        +----fail--> absent

Nothing moves by itself: every change names who asked and why, and emits exactly one event.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from plumbline.errors import ValidationError
from plumbline.hardware.lifecycle import next_state


class ResidencyState(StrEnum):
    """Whether the weights of a model are on the device."""

    ABSENT = "absent"
    LOADING = "loading"
    RESIDENT = "resident"
    EVICTING = "evicting"


class ResidencyEvent(StrEnum):
    """What happens to the weights of a model."""

    LOAD = "load"
    LOADED = "loaded"
    FAIL = "fail"
    EVICT = "evict"
    EVICTED = "evicted"


RESIDENCY_TRANSITIONS = {
    (ResidencyState.ABSENT, ResidencyEvent.LOAD): ResidencyState.LOADING,
    (ResidencyState.LOADING, ResidencyEvent.LOADED): ResidencyState.RESIDENT,
    (ResidencyState.LOADING, ResidencyEvent.FAIL): ResidencyState.ABSENT,
    (ResidencyState.RESIDENT, ResidencyEvent.EVICT): ResidencyState.EVICTING,
    (ResidencyState.EVICTING, ResidencyEvent.EVICTED): ResidencyState.ABSENT,
}


@dataclass(eq=False, kw_only=True)
class ResidencyUnexplainedError(ValidationError):
    """A residency change did not say who asked for it or why."""

    code = "validation.residency_unexplained"
    owner = "hardware"
    template = "{event} of model {model!r} must name an actor and a reason"

    model: str
    event: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Residency:
    """One model on one device. `model` is its digest, `size_bytes` its weights."""

    model: str
    device: str
    size_bytes: int
    state: ResidencyState = ResidencyState.ABSENT


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidencyChange:
    """The one event that a transition emits: what changed, who asked, why."""

    residency: Residency
    event: ResidencyEvent
    before: ResidencyState
    actor: str
    reason: str


def apply(
    residency: Residency, event: ResidencyEvent, *, actor: str, reason: str
) -> tuple[Residency, ResidencyChange]:
    """Follow one transition.

    Raises:
        IllegalTransitionError: the table has no such transition.
        ResidencyUnexplainedError: `actor` or `reason` is blank.
    """
    if not actor.strip() or not reason.strip():
        raise ResidencyUnexplainedError(model=residency.model, event=event.value)
    state = next_state(RESIDENCY_TRANSITIONS, residency.state, event, subject=f"model {residency.model!r}")
    after = replace(residency, state=state)
    change = ResidencyChange(residency=after, event=event, before=residency.state, actor=actor, reason=reason)
    return after, change


class ResidencyLedger:
    """Owns the residency of every model on one device and reports each change once to `on_change`."""

    def __init__(self, *, device: str, on_change: Callable[[ResidencyChange], None]) -> None:
        self.device = device
        self._on_change = on_change
        self._models: dict[str, Residency] = {}
        self._lock = threading.Lock()

    def get_residency(self, model: str, *, size_bytes: int = 0) -> Residency:
        """The residency of `model`; absent with `size_bytes` when it was never loaded."""
        absent = Residency(model=model, device=self.device, size_bytes=size_bytes)
        with self._lock:
            return self._models.get(model, absent)

    def change(
        self, model: str, event: ResidencyEvent, *, actor: str, reason: str, size_bytes: int = 0
    ) -> Residency:
        """Apply `event` to `model` and emit its change.

        Raises:
            IllegalTransitionError: the table has no such transition.
            ResidencyUnexplainedError: `actor` or `reason` is blank.
        """
        with self._lock:
            absent = Residency(model=model, device=self.device, size_bytes=size_bytes)
            after, change = apply(self._models.get(model, absent), event, actor=actor, reason=reason)
            self._models[model] = after
        self._on_change(change)
        return after

    def resident_bytes(self) -> int:
        """Bytes of weights that are on the device or on their way in or out."""
        with self._lock:
            present = [r for r in self._models.values() if r.state is not ResidencyState.ABSENT]
        return sum(residency.size_bytes for residency in present)
