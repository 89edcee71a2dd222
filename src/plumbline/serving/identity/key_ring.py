"""`KeyRing`: keys created, listed and revoked, for the API and the command line (requirement X-60)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plumbline.contracts.clock import Clock
from plumbline.contracts.identity import Principal, Role
from plumbline.contracts.requests import LOCAL_TENANT, TenantId
from plumbline.errors import PolicyError
from plumbline.serving.identity.hashing import hash_secret
from plumbline.serving.identity.key_store import KeyStore
from plumbline.serving.identity.keys import (
    ApiKey,
    CreatedKey,
    KeyRequestRefused,
    KeyUnknown,
    generate_key,
    verify_tenant,
)
from plumbline.serving.identity.rate import DEFAULT_RATE, parse_rate

__all__ = ["KeyRing", "TenantRefused"]

MAX_NAME_CHARACTERS = 200


@dataclass(eq=False, kw_only=True)
class TenantRefused(PolicyError):
    """A key for another tenant was asked for by someone who manages only their own."""

    code = "policy.tenant"
    owner = "serving.identity"
    template = "keys of tenant {tenant!r} are managed by that tenant and by the local one"

    tenant: str


class KeyRing:
    """`KeyService` over a store.

    Args:
        keys: where keys are kept.
        clock: stamps them.
        changed: told after every change at this gateway, such as `ApiKeyAuthenticator.forget`.
    """

    def __init__(self, keys: KeyStore, clock: Clock, changed: Callable[[], None] = lambda: None) -> None:
        self._keys, self._clock, self._changed = keys, clock, changed

    async def create(
        self, principal: Principal, *, tenant: str, roles: Sequence[str], rate: str | None, name: str
    ) -> CreatedKey:
        """A new key; its text is nowhere but in the answer.

        Raises:
            KeyRequestRefused: an impossible tenant, role, rate or name.
            TenantRefused: another's tenant.
        """
        owner = verify_tenant(tenant)
        if owner != principal.tenant and principal.tenant != LOCAL_TENANT:
            raise TenantRefused(tenant=owner)
        parse_rate(rate or DEFAULT_RATE)
        presented, text = generate_key()
        key = ApiKey(
            id=presented.id,
            tenant=owner,
            roles=_roles(roles),
            rate=rate or DEFAULT_RATE,
            name=_name(name),
            secret_hash=await asyncio.to_thread(hash_secret, presented.secret),
            created_wall_ns=self._clock.wall_ns(),
        )
        await self._keys.insert(key)
        self._changed()
        return CreatedKey(key=key, text=text)

    async def list(self, principal: Principal) -> Sequence[ApiKey]:
        """Keys that the caller manages, oldest first."""
        return await self._keys.list(_managed(principal))

    async def revoke(self, principal: Principal, key: str) -> ApiKey:
        """End a key.

        Raises:
            KeyUnknown: the caller manages no such key.
        """
        present = await self._keys.find(key)
        if present is None or _managed(principal) not in {None, present.tenant}:
            raise KeyUnknown(key=key[:32])
        revoked = await self._keys.revoke(key, self._clock.wall_ns())
        self._changed()
        return revoked if revoked is not None else present


def _managed(principal: Principal) -> TenantId | None:
    return None if principal.tenant == LOCAL_TENANT else principal.tenant


def _roles(names: Sequence[str]) -> frozenset[Role]:
    try:
        roles = frozenset(Role(name) for name in names)
    except ValueError:
        roles = frozenset()
    if not roles:
        raise KeyRequestRefused(reason=f"roles are one or more of {', '.join(Role)}")
    return roles


def _name(name: str) -> str:
    is_text = name.isprintable() or not name
    if len(name) > MAX_NAME_CHARACTERS or not is_text:
        raise KeyRequestRefused(reason=f"a name is up to {MAX_NAME_CHARACTERS} printable characters")
    return name
