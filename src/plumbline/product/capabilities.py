"""What present devices can compute, for discovery and the gateway: the same numbers (L4-33)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plumbline.hardware.device import DeviceKind
    from plumbline.hardware.discovery import Capabilities
    from plumbline.hardware.host.facts import HostFacts

__all__ = ["offered_operators"]


def offered_operators(kind: DeviceKind, host: HostFacts) -> Capabilities:
    """What the processor computes: every operation with native code and the element types of those."""
    from plumbline.hardware.discovery import Capabilities
    from plumbline.kernels.registry import operations

    native = [o for o in operations() if o.kernel is not None]
    return Capabilities(
        operators=tuple(o.name for o in native),
        dtypes=tuple(sorted({d.value for o in native for d in o.dtypes})),
    )
