"""`DeviceInfo`: the facts of a device, measured or `None`, and its JSON form (L4-49, L4-51)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["DEVICE_SCHEMA", "DeviceCapabilities", "DeviceFacts", "DeviceInfo"]

DEVICE_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCapabilities:
    """What a device can compute: operators and element types, each sorted."""

    operators: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """What discovery found.

    Attributes:
        id: stable name to open it by; of an absent kind, the kind.
        type: family, such as `cpu` or `cuda`.
        present: whether it can be used.
        name: as the hardware names itself; None when it does not tell.
        memory_total_bytes: measured; None when unknown, never a guess.
        reason: why it is absent.
        fingerprint: changes when the device does; capabilities are asked for again then.
    """

    id: str
    type: str
    present: bool
    name: str | None = None
    memory_total_bytes: int | None = None
    reason: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """A device now. `memory_available_bytes` is read when the document is made; None when unknown."""

    facts: DeviceFacts
    status: str
    capabilities: DeviceCapabilities | None
    memory_available_bytes: int | None
    allocations: int

    def to_document(self) -> dict[str, Any]:
        """Schema `DeviceInfo`; `null` for what is not known."""
        offered = self.capabilities
        return {
            "schema": DEVICE_SCHEMA,
            "id": self.facts.id,
            "name": self.facts.name,
            "type": self.facts.type,
            "status": self.status,
            "reason": self.facts.reason,
            "capabilities": None
            if offered is None
            else {"operators": list(offered.operators), "dtypes": list(offered.dtypes)},
            "memory": {
                "total_bytes": self.facts.memory_total_bytes,
                "available_bytes": self.memory_available_bytes,
            },
            "allocations": self.allocations,
        }
