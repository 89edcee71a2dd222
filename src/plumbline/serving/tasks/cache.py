"""Results of identical calls, for a while (requirements L4-47, L4-58). A value; time is an argument."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from plumbline.contracts.requests import TenantId

__all__ = ["CachedResult", "ResultCache", "ResultKey"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultKey:
    """What must agree: the tenant, the version with the digest of its content, and the inputs.

    Attributes:
        tenant: results never cross tenants.
        version: `model@version`.
        content: digest of the version's files, so that a name that is published again does not match.
        inputs: digest of inputs, wanted outputs and parameters.
    """

    tenant: TenantId
    version: str
    content: str
    inputs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedResult:
    """A kept result: its JSON body, and who served it."""

    body: str
    served_by: str


class ResultCache:
    """Owns the kept results of this gateway: at most `max_bytes`, the least recently used go first.

    Args:
        ttl_ns: how long a result answers; 0 keeps nothing.
        max_bytes: of all bodies together.
    """

    def __init__(self, *, ttl_ns: int, max_bytes: int) -> None:
        self._ttl_ns, self._max_bytes = ttl_ns, max_bytes
        self._kept: OrderedDict[ResultKey, tuple[int, CachedResult]] = OrderedDict()
        self._size_bytes = 0

    def find(self, key: ResultKey, now_ns: int) -> CachedResult | None:
        """A result that is not too old at `now_ns` (monotonic)."""
        entry = self._kept.get(key)
        if entry is None:
            return None
        if now_ns >= entry[0]:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return entry[1]

    def keep(self, key: ResultKey, result: CachedResult, now_ns: int) -> None:
        """Keep a result from `now_ns` on, unless it alone is larger than the cache."""
        if self._ttl_ns <= 0 or len(result.body) > self._max_bytes:
            return
        self._drop(key)
        self._kept[key] = (now_ns + self._ttl_ns, result)
        self._size_bytes += len(result.body)
        while self._size_bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    @property
    def size_bytes(self) -> int:
        """Bytes of the bodies that are kept."""
        return self._size_bytes

    def _drop(self, key: ResultKey) -> None:
        entry = self._kept.pop(key, None)
        if entry is not None:
            self._size_bytes -= len(entry[1].body)
