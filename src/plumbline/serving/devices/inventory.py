"""`DeviceManager`: every device from discovery to retirement (requirements L4-33, L4-48, L4-60)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from plumbline.contracts.clock import Clock
from plumbline.errors import ValidationError
from plumbline.serving.devices.allocator import DeviceAllocator
from plumbline.serving.devices.info import DeviceCapabilities, DeviceFacts, DeviceInfo
from plumbline.serving.devices.lifecycle import DeviceEvent, DeviceState, next_state
from plumbline.serving.devices.strategies import Strategy
from plumbline.serving.ports import EventService

__all__ = ["DeviceManager", "DeviceSource", "DeviceUnknown"]


@dataclass(eq=False, kw_only=True)
class DeviceUnknown(ValidationError):
    """No device has this id."""

    code = "validation.device_unknown"
    owner = "serving.devices"
    http_status = 404
    template = "there is no device {device!r}"

    device: str


class DeviceSource(Protocol):
    """Where devices are found: the hardware, or a simulation."""

    def find(self) -> Sequence[DeviceFacts]:
        """Every device and every kind that was looked for, in a stable order."""

    def capabilities(self, facts: DeviceFacts) -> DeviceCapabilities | None:
        """What a device can compute. Asked once for each fingerprint."""

    def available_bytes(self, facts: DeviceFacts) -> int | None:
        """Free memory now, or None."""


@dataclass(slots=True, kw_only=True)
class _Entry:
    facts: DeviceFacts
    state: DeviceState
    capabilities: DeviceCapabilities | None


class DeviceManager:
    """`DeviceService`. Owns the table of devices and, through `allocator`, what is held on them.

    Args:
        source: where devices are found.
        events: told of every change: `device.plugged`, `.unplugged`, `.changed`, `.draining`, `.drained`,
            `.resumed`, `.retired`.
        clock: for allocation records.
        strategy: for tasks without a preference.
    """

    def __init__(
        self,
        source: DeviceSource,
        events: EventService,
        clock: Clock,
        *,
        strategy: Strategy = Strategy.LEAST_LOADED,
    ) -> None:
        self._source, self._events = source, events
        self._entries: dict[str, _Entry] = {}
        self._emptied = asyncio.Condition()
        self._waiters: set[asyncio.Task[None]] = set()
        self.allocator = DeviceAllocator(
            self._candidates, clock, strategy=strategy, released=self._on_release
        )

    def refresh(self) -> None:
        """Look again: new devices are plugged, missing ones unplugged, changed ones asked again."""
        found = {facts.id: facts for facts in self._source.find()}
        for facts in found.values():
            self._see(facts)
        for device in [d for d in self._entries if d not in found]:
            self._lose(device)

    def devices(self) -> Sequence[Mapping[str, Any]]:
        """Every device, as found."""
        return tuple(self.device(device) for device in self._entries)

    def device(self, device_id: str) -> Mapping[str, Any]:
        """One device, with the memory that is free now.

        Raises:
            DeviceUnknown: no device has this id.
        """
        entry = self._entry(device_id)
        return DeviceInfo(
            facts=entry.facts,
            status=entry.state.value,
            capabilities=entry.capabilities,
            memory_available_bytes=self._source.available_bytes(entry.facts),
            allocations=self.allocator.load(device_id),
        ).to_document()

    async def drain(self, device_id: str) -> Mapping[str, Any]:
        """Take no new work and wait for what is there.

        Raises:
            DeviceUnknown, DeviceTransitionRefused: see there.
        """
        self._move(device_id, DeviceEvent.DRAIN, "draining")
        async with self._emptied:
            await self._emptied.wait_for(lambda: self._is_settled(device_id))
        return self.device(device_id)

    def resume(self, device_id: str) -> Mapping[str, Any]:
        """Take work again.

        Raises:
            DeviceUnknown, DeviceTransitionRefused: see there.
        """
        self._move(device_id, DeviceEvent.RESUME, "resumed")
        self._notify()
        return self.device(device_id)

    def retire(self, device_id: str) -> Mapping[str, Any]:
        """The end of a drained or lost device.

        Raises:
            DeviceUnknown, DeviceTransitionRefused: see there.
        """
        self._move(device_id, DeviceEvent.RETIRE, "retired")
        return self.device(device_id)

    def _see(self, facts: DeviceFacts) -> None:
        entry = self._entries.get(facts.id)
        if entry is None:
            entry = _Entry(facts=facts, state=DeviceState.ABSENT, capabilities=None)
            self._entries[facts.id] = entry
        changed = entry.facts.fingerprint != facts.fingerprint
        entry.facts = facts
        if not facts.present:
            self._lose(facts.id)
        elif entry.state in {DeviceState.ABSENT, DeviceState.LOST, DeviceState.RETIRED}:
            entry.capabilities = self._source.capabilities(facts)
            self._move(facts.id, DeviceEvent.PLUG, "plugged")
        elif changed:
            entry.capabilities = self._source.capabilities(facts)
            self._tell("changed", facts.id)

    def _lose(self, device: str) -> None:
        entry = self._entries[device]
        if entry.state in {DeviceState.AVAILABLE, DeviceState.DRAINING, DeviceState.DRAINED}:
            entry.capabilities = None
            self._move(device, DeviceEvent.UNPLUG, "unplugged")
            self._notify()

    def _move(self, device: str, event: DeviceEvent, word: str) -> None:
        entry = self._entry(device)
        before, entry.state = entry.state, next_state(device, entry.state, event)
        if entry.state is not before:
            self._tell(word, device)
        self._settle(device)

    def _settle(self, device: str) -> None:
        entry = self._entries[device]
        if entry.state is DeviceState.DRAINING and self.allocator.load(device) == 0:
            entry.state = next_state(device, entry.state, DeviceEvent.EMPTY)
            self._tell("drained", device)
            self._notify()

    def _is_settled(self, device: str) -> bool:
        return self._entries[device].state is not DeviceState.DRAINING

    def _on_release(self, device: str) -> None:
        if device in self._entries:
            self._settle(device)

    def _notify(self) -> None:
        """Wake those who wait in `drain`; from code without a loop there are none."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        waiter = loop.create_task(self._wake())
        self._waiters.add(waiter)
        waiter.add_done_callback(self._waiters.discard)

    async def _wake(self) -> None:
        async with self._emptied:
            self._emptied.notify_all()

    def _tell(self, word: str, device: str) -> None:
        self._events.publish(f"device.{word}", device, status=self._entries[device].state.value)

    def _entry(self, device: str) -> _Entry:
        entry = self._entries.get(device)
        if entry is None:
            raise DeviceUnknown(device=device[:64])
        return entry

    def _candidates(self) -> Sequence[tuple[str, str, str]]:
        return tuple((d, e.state.value, e.facts.reason) for d, e in self._entries.items())
