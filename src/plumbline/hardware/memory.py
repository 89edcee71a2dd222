"""Device memory: a pool that accounts for every byte and tenant, and the buffers that it hands out.

The pool never retries, compacts or evicts: one request is one driver call, and its failure is the answer.
Invariant: `used_bytes + free_bytes == capacity_bytes`, and the tenants' bytes sum to `used_bytes`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from plumbline.errors import BackendError, Recoverability, ResourceError, ValidationError
from plumbline.hardware.allocation import Allocation, AllocationChange, AllocationEvent, apply
from plumbline.hardware.faults import DeviceMemoryExhaustedError
from plumbline.hardware.handles import HandleRegistry, OwnedHandle

DEFAULT_TENANT = "local"
ALIGNMENT_BYTES = 256


@dataclass(eq=False, kw_only=True)
class TenantQuotaError(ResourceError):
    """A tenant asked for more device memory than its quota leaves it."""

    code = "resource.tenant_quota"
    recoverability = Recoverability.TRANSIENT
    owner = "hardware"
    template = "tenant {tenant!r} asked for {requested_bytes} bytes with {used_bytes} of {quota_bytes} in use"

    tenant: str
    requested_bytes: int
    used_bytes: int
    quota_bytes: int


@dataclass(eq=False, kw_only=True)
class AllocationSizeError(ValidationError):
    """A buffer must have at least one byte."""

    code = "validation.allocation_size"
    owner = "hardware"
    template = "buffer {label!r}: {size_bytes} bytes cannot be allocated"

    label: str
    size_bytes: int


@dataclass(eq=False, kw_only=True)
class BufferRangeError(ValidationError):
    """An access leaves the buffer."""

    code = "validation.buffer_range"
    owner = "hardware"
    template = "buffer {label!r} has {buffer_bytes} bytes; [{offset}, {offset} + {size_bytes}) is outside"

    label: str
    buffer_bytes: int
    offset: int
    size_bytes: int


@dataclass(eq=False, kw_only=True)
class NotHostVisibleError(ValidationError):
    """Device memory that the host cannot address was asked for a view."""

    code = "validation.not_host_visible"
    owner = "hardware"
    template = "buffer {label!r} is not addressable by the host; copy it with the device"

    label: str


class MemoryBlock(Protocol):
    """Memory that a driver granted. It stays inside `hardware`."""

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Copy bytes out."""

    def write(self, offset: int, data: memoryview) -> None:
        """Copy bytes in."""

    def view(self, offset: int, size_bytes: int) -> memoryview:
        """Writable host view that becomes invalid at release. Only when `host_visible`."""


class MemoryDriver(Protocol):
    """The few calls that a device's memory needs."""

    @property
    def host_visible(self) -> bool:
        """Whether the host can address this memory."""

    def allocate(self, size_bytes: int) -> MemoryBlock | None:
        """One driver call; None when there is no room."""

    def release(self, block: MemoryBlock, reclaimed: Callable[[], None]) -> None:
        """Take a block back and call `reclaimed` once its memory is really free."""


def round_up(size_bytes: int, alignment_bytes: int = ALIGNMENT_BYTES) -> int:
    """The next multiple of the alignment.

    >>> round_up(1), round_up(256), round_up(257)
    (256, 256, 512)
    """
    return -(-size_bytes // alignment_bytes) * alignment_bytes


class DeviceMemoryPool:
    """Accounts for the memory of one device. Owns the counters; buffers own the memory."""

    def __init__(
        self,
        *,
        device: str,
        capacity_bytes: int,
        driver: MemoryDriver,
        registry: HandleRegistry,
        on_change: Callable[[AllocationChange], None] = lambda _change: None,
    ) -> None:
        self.device = device
        self.capacity_bytes = capacity_bytes
        self._driver = driver
        self._registry = registry
        self._on_change = on_change
        self._used: Counter[str] = Counter()
        self._quotas: dict[str, int] = {}
        self._requests = 0
        self._lock = threading.RLock()
        self.peak_bytes = 0

    @property
    def used_bytes(self) -> int:
        """Bytes granted and not yet reclaimed, alignment included."""
        with self._lock:
            return sum(self._used.values())

    @property
    def free_bytes(self) -> int:
        """Bytes that can still be granted."""
        return self.capacity_bytes - self.used_bytes

    def usage_by_tenant(self) -> dict[str, int]:
        """Bytes in use of every tenant that has any."""
        with self._lock:
            return {tenant: size for tenant, size in self._used.items() if size}

    def set_quota(self, tenant: str, quota_bytes: int) -> None:
        """Deny `tenant` any allocation that would take it above `quota_bytes`."""
        with self._lock:
            self._quotas[tenant] = quota_bytes

    def allocate(self, size_bytes: int, *, label: str, tenant: str = DEFAULT_TENANT) -> DeviceBuffer:
        """A buffer of at least `size_bytes`, owned by the caller.

        Raises:
            AllocationSizeError: `size_bytes` is not positive.
            TenantQuotaError: the tenant's quota does not allow it.
            DeviceMemoryExhaustedError: the driver refused. Nothing was moved, nothing was retried.
        """
        if size_bytes <= 0:
            raise AllocationSizeError(label=label, size_bytes=size_bytes)
        wanted = round_up(size_bytes)
        with self._lock:
            self._verify_quota(tenant, wanted)
            self._requests += 1
            request = Allocation(number=self._requests, label=label, tenant=tenant, size_bytes=wanted)
            block = self._ask_driver(request)
            granted = self._follow(request, AllocationEvent.GRANT)
            self._used[tenant] += wanted
            self.peak_bytes = max(self.peak_bytes, self.used_bytes)
        return DeviceBuffer(pool=self, block=block, allocation=granted, size_bytes=size_bytes)

    def _verify_quota(self, tenant: str, wanted: int) -> None:
        quota = self._quotas.get(tenant)
        used = self._used[tenant]
        if quota is not None and used + wanted > quota:
            raise TenantQuotaError(tenant=tenant, requested_bytes=wanted, used_bytes=used, quota_bytes=quota)

    def _ask_driver(self, request: Allocation) -> MemoryBlock:
        try:
            block = self._driver.allocate(request.size_bytes)
        except BackendError:
            self._follow(request, AllocationEvent.REFUSE)
            raise
        if block is None:
            self._follow(request, AllocationEvent.REFUSE)
            raise self._exhausted(request.size_bytes)
        return block

    def _exhausted(self, wanted: int) -> DeviceMemoryExhaustedError:
        return DeviceMemoryExhaustedError(
            device=self.device,
            requested_bytes=wanted,
            used_bytes=self.used_bytes,
            capacity_bytes=self.capacity_bytes,
        )

    def _follow(self, allocation: Allocation, event: AllocationEvent) -> Allocation:
        after, change = apply(allocation, event)
        self._on_change(change)
        return after

    def _take_back(self, block: MemoryBlock, allocation: Allocation) -> None:
        releasing = self._follow(allocation, AllocationEvent.RELEASE)
        self._driver.release(block, lambda: self._reclaimed(releasing))

    def _reclaimed(self, allocation: Allocation) -> None:
        with self._lock:
            self._used[allocation.tenant] -= allocation.size_bytes
        self._follow(allocation, AllocationEvent.RECLAIM)


class DeviceBuffer(OwnedHandle):
    """Owned device memory of `size_bytes`, zeroed, aligned to 256 bytes."""

    kind = "buffer"

    def __init__(
        self, *, pool: DeviceMemoryPool, block: MemoryBlock, allocation: Allocation, size_bytes: int
    ) -> None:
        super().__init__(registry=pool._registry, label=allocation.label)
        self._pool = pool
        self._block = block
        self._allocation = allocation
        self.size_bytes = size_bytes
        self.tenant = allocation.tenant

    @property
    def host_visible(self) -> bool:
        """Whether `view` and `array` work: the host addresses the same memory."""
        return self._pool._driver.host_visible

    def view(self, offset: int = 0, size_bytes: int | None = None) -> memoryview:
        """Writable bytes of the buffer. Reading it after `close` raises `ValueError`.

        Raises:
            HandleClosedError, HandleForkedError: see `OwnedHandle.verify_open`.
            NotHostVisibleError: only the device can address this memory.
            BufferRangeError: the range leaves the buffer.
        """
        size = self._verify_range(offset, size_bytes)
        if not self.host_visible:
            raise NotHostVisibleError(label=self.label)
        return self._block.view(offset, size)

    def array(self, dtype: npt.DTypeLike, shape: tuple[int, ...], offset: int = 0) -> npt.NDArray[Any]:
        """A numpy array over the buffer. It keeps the memory alive, and accounted, after `close`.

        Raises:
            As `view`.
        """
        element = np.dtype(dtype)
        size = element.itemsize * int(np.prod(shape, dtype=np.int64))
        if size == 0:
            return np.zeros(shape, dtype=element)
        return np.frombuffer(self.view(offset, size), dtype=element).reshape(shape)

    def _read(self, offset: int, size_bytes: int | None) -> bytes:
        size = self._verify_range(offset, size_bytes)
        return self._block.read(offset, size)

    def _write(self, offset: int, data: memoryview) -> None:
        self._verify_range(offset, data.nbytes)
        self._block.write(offset, data)

    def _verify_range(self, offset: int, size_bytes: int | None) -> int:
        self.verify_open()
        size = self.size_bytes - offset if size_bytes is None else size_bytes
        if offset < 0 or size < 0 or offset + size > self.size_bytes:
            raise BufferRangeError(
                label=self.label, buffer_bytes=self.size_bytes, offset=offset, size_bytes=size
            )
        return size

    def _release(self) -> None:
        self._pool._take_back(self._block, self._allocation)
