"""What can go wrong between the gateway and its database."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.errors import Recoverability, ResourceError, ValidationError

__all__ = ["StoreBusy", "StoreNewer", "StoreUnavailable", "StoreUrlRefused"]


@dataclass(eq=False, kw_only=True)
class StoreUnavailable(ResourceError):
    """The database did not answer. Whether a change was made is told by reading again."""

    code = "resource.store_unavailable"
    recoverability = Recoverability.TRANSIENT
    owner = "serving.storage"
    template = "the store does not answer ({reason}); try again in {retry_after_s} s"

    reason: str
    retry_after_s: float = 1.0


@dataclass(eq=False, kw_only=True)
class StoreBusy(ResourceError):
    """Every connection of the bounded pool is in use, or the file is locked by another process."""

    code = "resource.store_busy"
    recoverability = Recoverability.TRANSIENT
    owner = "serving.storage"
    template = "all {connections} connections to the store are in use; try again in {retry_after_s} s"

    connections: int
    retry_after_s: float = 1.0


@dataclass(eq=False, kw_only=True)
class StoreUrlRefused(ValidationError):
    """The URL of the store names no database that this version can use."""

    code = "validation.store_url"
    owner = "serving.storage"
    template = "store of kind {kind!r}: expected sqlite or postgresql"

    kind: str


@dataclass(eq=False, kw_only=True)
class StoreNewer(ValidationError):
    """The tables were made by a newer version. They are left alone: going back is refused."""

    code = "validation.store_newer"
    owner = "serving.storage"
    template = "the store is at revision {found!r}, which this version does not know; its newest is {known!r}"

    found: str
    known: str
