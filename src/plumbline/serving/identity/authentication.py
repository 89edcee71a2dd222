"""`ApiKeyAuthenticator` and `LocalAuthenticator`: who is asking (requirements X-54, X-60)."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from plumbline.contracts.clock import Clock
from plumbline.contracts.identity import LOCAL_PRINCIPAL, Principal
from plumbline.errors import Recoverability, ResourceError
from plumbline.serving.identity.hashing import is_secret
from plumbline.serving.identity.key_store import KeyStore
from plumbline.serving.identity.keys import ApiKey, ApiKeyRefused, PresentedKey, parse_key
from plumbline.serving.identity.rate import RateLimiter
from plumbline.serving.identity.roles import verify_permission
from plumbline.serving.ports import Permission

__all__ = [
    "REVOCATION_BOUND_S",
    "ApiKeyAuthenticator",
    "AuthenticationBusy",
    "LocalAuthenticator",
    "key_text_of",
]

REVOCATION_BOUND_S = 0.5
"""A key that was revoked at another gateway of the store is refused here after at most so long."""

_REMEMBERED = 10_000
_VERIFYING = 2
_WAITING = 64


@dataclass(eq=False, kw_only=True)
class AuthenticationBusy(ResourceError):
    """More keys are being verified for the first time than may wait."""

    code = "resource.authentication_busy"
    recoverability = Recoverability.TRANSIENT
    owner = "serving.identity"
    template = "{waiting} keys wait to be verified; try again in {retry_after_s} s"

    waiting: int
    retry_after_s: float = 1.0


class ApiKeyAuthenticator:
    """`Authenticator` over API keys. Owns the cache of verified keys.

    The first use of a key costs an argon2 verification on a thread; later ones find the SHA-256 of its text
    in memory. Whenever the epoch of the store moved, the cache is empty: it is read at most
    `REVOCATION_BOUND_S` before any answer. When the store does not answer, nobody is let in.

    Args:
        keys: where keys are kept.
        clock: monotonic time.
    """

    def __init__(self, keys: KeyStore, clock: Clock) -> None:
        self._keys, self._clock = keys, clock
        self._rates = RateLimiter()
        self._verified: OrderedDict[bytes, ApiKey] = OrderedDict()
        self._rate_of: dict[str, str] = {}
        self._epoch = -1
        self._epoch_read_ns: int | None = None
        self._reading = asyncio.Lock()
        self._slots = asyncio.Semaphore(_VERIFYING)
        self._waiting = 0

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """The principal of a request; see `Authenticator.authenticate`.

        Raises:
            ApiKeyRefused: no key, or one that does not work.
            AuthenticationBusy: too many new keys at once.
            StoreUnavailable: whether the key still works cannot be told.
        """
        text = key_text_of(headers)
        if text is None:
            raise ApiKeyRefused()
        presented = parse_key(text)
        await self._follow_epoch()
        digest = hashlib.sha256(text.encode()).digest()
        key = self._verified.get(digest)
        if key is None:
            epoch = self._epoch
            key = await self._verify(presented)
            if epoch == self._epoch:  # else a key changed meanwhile, and this reading may be the older one
                self._remember(digest, key)
        self._rate_of[key.id] = key.rate
        return key.principal

    def authorise(self, principal: Principal, permission: Permission) -> None:
        """See `Authenticator.authorise`."""
        verify_permission(principal, permission)

    def spend(self, principal: Principal) -> None:
        """See `Authenticator.spend`."""
        rate = self._rate_of.get(principal.id)
        if rate is not None:
            self._rates.spend(principal.id, rate)

    def forget(self) -> None:
        """A key changed at this gateway: the very next answer reads the store."""
        self._epoch_read_ns = None

    async def _follow_epoch(self) -> None:
        if self._is_fresh():
            return
        async with self._reading:
            if self._is_fresh():
                return
            began_ns = self._clock.now_ns()
            epoch = await self._keys.epoch()
            if epoch != self._epoch:
                self._verified.clear()
                self._epoch = epoch
            self._epoch_read_ns = began_ns

    def _is_fresh(self) -> bool:
        read_ns = self._epoch_read_ns
        return read_ns is not None and self._clock.now_ns() - read_ns < REVOCATION_BOUND_S * 1e9

    async def _verify(self, presented: PresentedKey) -> ApiKey:
        key = await self._keys.find(presented.id)
        if key is None or key.revoked_wall_ns is not None:
            raise ApiKeyRefused()
        if self._waiting >= _WAITING:
            raise AuthenticationBusy(waiting=self._waiting)
        self._waiting += 1
        try:
            async with self._slots:
                matches = await asyncio.to_thread(is_secret, key.secret_hash, presented.secret)
        finally:
            self._waiting -= 1
        if not matches:
            raise ApiKeyRefused()
        return await self._unrevoked(key)

    async def _unrevoked(self, key: ApiKey) -> ApiKey:
        """The key as it is after the verification, during which it may have been revoked."""
        fresh = await self._keys.find(key.id)
        if fresh is None or fresh.revoked_wall_ns is not None:
            raise ApiKeyRefused()
        return fresh

    def _remember(self, digest: bytes, key: ApiKey) -> None:
        self._verified[digest] = key
        while len(self._verified) > _REMEMBERED:
            self._verified.popitem(last=False)
        if len(self._rate_of) > _REMEMBERED:
            self._rate_of = {kept.id: kept.rate for kept in self._verified.values()}


class LocalAuthenticator:
    """Everyone is the explicit local principal: for a loopback listener that asks for no key (X-54)."""

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """The local principal."""
        return LOCAL_PRINCIPAL

    def authorise(self, principal: Principal, permission: Permission) -> None:
        """See `Authenticator.authorise`."""
        verify_permission(principal, permission)

    def spend(self, principal: Principal) -> None:
        """The local principal has no rate."""


def key_text_of(headers: Mapping[str, str]) -> str | None:
    """The key in `authorization: Bearer KEY` or `x-api-key: KEY`; None without one."""
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and rest.strip():
        return rest.strip()
    return headers.get("x-api-key") or None
