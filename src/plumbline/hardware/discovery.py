"""Which devices this machine has, and why it has no others (requirements L0-15..L0-19).

The CPU is present with measured facts. Every other kind is listed as absent with the reason that was found by
looking; none has a backend in this version, which the reason says when its hardware may be here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from plumbline.errors import BackendError
from plumbline.hardware.cpu import CpuDevice
from plumbline.hardware.device import Device, DeviceKind
from plumbline.hardware.host.facts import HostFacts, measure_host, to_json
from plumbline.hardware.host.libraries import Search, search_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a device can compute: names of operators and element types, each sorted."""

    operators: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()


@dataclass(eq=False, kw_only=True)
class DeviceAbsentError(BackendError):
    """A device was asked for that cannot be used here."""

    code = "backend.device_absent"
    owner = "hardware"
    template = "there is no {kind} device: {reason}"

    kind: str
    reason: str


CapabilityQuery = Callable[[DeviceKind, HostFacts], Capabilities]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceListing:
    """One row of `plumb devices`.

    Attributes:
        kind: family of the device.
        label: name to open it by; empty when absent.
        present: whether it can be used.
        reason: why it is absent; empty when present.
        looked_for: what was searched; empty for the CPU.
        found: signs of the hardware or its driver.
        capabilities: filled for present devices by the caller's query; None when nobody was asked.
    """

    kind: DeviceKind
    label: str = ""
    present: bool = False
    reason: str = ""
    looked_for: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    capabilities: Capabilities | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReport:
    """Everything that `plumb devices` shows."""

    host: HostFacts
    devices: tuple[DeviceListing, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document; unknown facts read `unknown`."""
        return {
            "schema": 1,
            "host": self.host.to_dict(),
            "devices": [_listing_to_dict(listing) for listing in self.devices],
        }


def find_devices(capabilities: CapabilityQuery | None = None) -> DeviceReport:
    """Look at this machine.

    Args:
        capabilities: says what a present device can compute; higher layers know, this one does not.
    """
    host = measure_host()
    offered = capabilities(DeviceKind.CPU, host) if capabilities is not None else None
    cpu = DeviceListing(kind=DeviceKind.CPU, label="cpu", present=True, capabilities=offered)
    return DeviceReport(host=host, devices=(cpu, *find_absent_devices()))


def open_device(kind: DeviceKind) -> Device:
    """Open the device of one kind; no other is chosen in its place.

    Raises:
        DeviceAbsentError: this machine or this version has no such device; the reason says why.
    """
    if kind is DeviceKind.CPU:
        return CpuDevice()
    reasons = {listing.kind: listing.reason for listing in find_absent_devices()}
    raise DeviceAbsentError(kind=kind.value, reason=reasons.get(kind, "it is opened by its own class"))


def find_absent_devices(platform: str = sys.platform) -> tuple[DeviceListing, ...]:
    """Every kind that has no backend here, each with what was looked for and found."""
    return (
        _absent(DeviceKind.CUDA, "CUDA driver", _cuda_search()),
        _absent(DeviceKind.OPENCL, "OpenCL driver", _opencl_search()),
        _absent(DeviceKind.WEBGPU, "WebGPU implementation", _webgpu_search()),
        _metal(platform),
        _mlx(platform),
        _absent(DeviceKind.TPU, "TPU driver", _tpu_search()),
    )


def _cuda_search() -> Search:
    libraries = ("libcuda.so.1", "nvcuda.dll")
    return search_for(libraries=libraries, nodes=("dev/nvidia[0-9]*",))


def _opencl_search() -> Search:
    libraries = ("libOpenCL.so.1", "OpenCL.dll", "/System/Library/Frameworks/OpenCL.framework/OpenCL")
    return search_for(libraries=libraries, nodes=("etc/OpenCL/vendors/*.icd",))


def _webgpu_search() -> Search:
    return search_for(libraries=("libwgpu_native.so", "libwgpu_native.dylib"), packages=("wgpu",))


def _tpu_search() -> Search:
    return search_for(libraries=("libtpu.so",), packages=("libtpu",), nodes=("dev/accel[0-9]*",))


def _metal(platform: str) -> DeviceListing:
    if platform != "darwin":
        return _not_macos(DeviceKind.METAL)
    library = "/System/Library/Frameworks/Metal.framework/Metal"
    return _absent(DeviceKind.METAL, "Metal framework", search_for(libraries=(library,)))


def _mlx(platform: str) -> DeviceListing:
    if platform != "darwin":
        return _not_macos(DeviceKind.MLX)
    return _absent(DeviceKind.MLX, "MLX package", search_for(packages=("mlx",)))


def _not_macos(kind: DeviceKind) -> DeviceListing:
    return DeviceListing(
        kind=kind, reason="needs macOS; this is another system", looked_for=("operating system",)
    )


def _absent(kind: DeviceKind, what: str, search: Search) -> DeviceListing:
    if search.found:
        signs = ", ".join(search.found)
        reason = f"{what} found ({signs}), but this version has no {kind.value} backend"
    else:
        reason = f"no {what} found, and this version has no {kind.value} backend"
    return DeviceListing(kind=kind, reason=reason, looked_for=search.looked_for, found=search.found)


def _listing_to_dict(listing: DeviceListing) -> dict[str, Any]:
    document: dict[str, Any] = {
        "kind": listing.kind.value,
        "label": listing.label,
        "present": listing.present,
        "reason": listing.reason,
        "looked_for": [_public_name(name) for name in listing.looked_for],
        "found": [_public_name(name) for name in listing.found],
    }
    if listing.present:
        offered = listing.capabilities
        document["operators"] = to_json(None if offered is None else offered.operators)
        document["dtypes"] = to_json(None if offered is None else offered.dtypes)
    return document


def _public_name(name: str) -> str:
    """The last part of a path: no machine path leaves the process."""
    return name.rsplit("/", maxsplit=1)[-1]
