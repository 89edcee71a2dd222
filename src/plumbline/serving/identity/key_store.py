"""Where keys are kept: a port, the database, and memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Row

from plumbline.contracts.identity import Role
from plumbline.contracts.requests import TenantId
from plumbline.serving.identity.keys import ApiKey
from plumbline.serving.storage.database import Database
from plumbline.serving.storage.tables import api_keys, identity_epoch

__all__ = ["KeyStore", "MemoryKeyStore", "SqlKeyStore"]


class KeyStore(Protocol):
    """Keys of every gateway that shares it. Each change makes the epoch grow, in the same transaction."""

    async def epoch(self) -> int:
        """Grows with every change."""

    async def find(self, key: str) -> ApiKey | None:
        """A key by its id, revoked or not."""

    async def list(self, tenant: TenantId | None) -> Sequence[ApiKey]:
        """Keys of a tenant, or all; oldest first."""

    async def insert(self, key: ApiKey) -> None:
        """Keep a new key."""

    async def revoke(self, key: str, wall_ns: int) -> ApiKey | None:
        """Revoke a key; one that was revoked before keeps its time. None when there is none."""


class MemoryKeyStore:
    """Keys of this process. Owns the table."""

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}
        self._epoch = 0

    async def epoch(self) -> int:
        """See `KeyStore.epoch`."""
        return self._epoch

    async def find(self, key: str) -> ApiKey | None:
        """See `KeyStore.find`."""
        return self._keys.get(key)

    async def list(self, tenant: TenantId | None) -> Sequence[ApiKey]:
        """See `KeyStore.list`."""
        return [key for key in self._keys.values() if tenant in {None, key.tenant}]

    async def insert(self, key: ApiKey) -> None:
        """See `KeyStore.insert`."""
        self._keys[key.id] = key
        self._epoch += 1

    async def revoke(self, key: str, wall_ns: int) -> ApiKey | None:
        """See `KeyStore.revoke`."""
        found = self._keys.get(key)
        if found is None or found.revoked_wall_ns is not None:
            return found
        self._keys[key] = dataclasses.replace(found, revoked_wall_ns=wall_ns)
        self._epoch += 1
        return self._keys[key]


class SqlKeyStore:
    """Keys in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def epoch(self) -> int:
        """See `KeyStore.epoch`."""
        async with self._database.read() as connection:
            return int((await connection.execute(select(identity_epoch.c.value))).scalar_one())

    async def find(self, key: str) -> ApiKey | None:
        """See `KeyStore.find`."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(api_keys).where(api_keys.c.id == key))).first()
        return None if row is None else _key(row)

    async def list(self, tenant: TenantId | None) -> Sequence[ApiKey]:
        """See `KeyStore.list`."""
        query = select(api_keys).order_by(api_keys.c.created_wall_ns, api_keys.c.id)
        if tenant is not None:
            query = query.where(api_keys.c.tenant == tenant)
        async with self._database.read() as connection:
            return [_key(row) for row in (await connection.execute(query)).all()]

    async def insert(self, key: ApiKey) -> None:
        """See `KeyStore.insert`."""
        async with self._database.write() as connection:
            await connection.execute(insert(api_keys).values(_columns(key)))
            await connection.execute(_next_epoch())

    async def revoke(self, key: str, wall_ns: int) -> ApiKey | None:
        """See `KeyStore.revoke`."""
        live = (api_keys.c.id == key, api_keys.c.revoked_wall_ns.is_(None))
        async with self._database.write() as connection:
            await connection.execute(update(api_keys).where(*live).values(revoked_wall_ns=wall_ns))
            await connection.execute(_next_epoch())
        return await self.find(key)


def _next_epoch() -> Any:
    return update(identity_epoch).values(value=identity_epoch.c.value + 1)


def _columns(key: ApiKey) -> dict[str, Any]:
    roles = ",".join(sorted(role.value for role in key.roles))
    return {**{f.name: getattr(key, f.name) for f in dataclasses.fields(key)}, "roles": roles}


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        tenant=TenantId(row.tenant),
        roles=frozenset(Role(role) for role in row.roles.split(",") if role),
        rate=row.rate,
        name=row.name,
        secret_hash=row.secret_hash,
        created_wall_ns=row.created_wall_ns,
        revoked_wall_ns=row.revoked_wall_ns,
    )
