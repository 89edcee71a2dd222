"""Keys: hashed at rest, revoked at once, limited in rate, and roles by one table (X-54, X-60, X-62..X-64)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from plumbline.contracts.clock import FakeClock, MonotonicClock
from plumbline.contracts.identity import LOCAL_PRINCIPAL, Principal, Role
from plumbline.contracts.requests import LOCAL_TENANT, TenantId
from plumbline.serving.identity import authentication
from plumbline.serving.identity.authentication import (
    REVOCATION_BOUND_S,
    ApiKeyAuthenticator,
    LocalAuthenticator,
)
from plumbline.serving.identity.key_ring import KeyRing, TenantRefused
from plumbline.serving.identity.key_store import KeyStore, MemoryKeyStore, SqlKeyStore
from plumbline.serving.identity.keys import (
    ApiKeyRefused,
    KeyRequestRefused,
    KeyUnknown,
    PresentedKey,
    parse_key,
)
from plumbline.serving.identity.rate import RateExceeded, RateLimiter, parse_rate
from plumbline.serving.identity.roles import ROLE_PERMISSIONS, PermissionRefused, verify_permission
from plumbline.serving.ports import Permission
from plumbline.serving.storage.database import open_database, sqlite_url
from plumbline.serving.storage.refusals import StoreUnavailable

OF_ACME = Principal(id="k", tenant=TenantId("acme"), roles=frozenset({Role.ADMIN}))


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())


async def make(ring: KeyRing, tenant: str = "acme", role: str = "client", rate: str | None = None) -> Any:
    return await ring.create(LOCAL_PRINCIPAL, tenant=tenant, roles=[role], rate=rate, name="n")


def shown(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_key_is_hashed_at_rest_and_lets_its_principal_in(kind: str, tmp_path: Path) -> None:
    """X-60: neither the store's answers nor its file hold the secret."""

    async def test() -> None:
        database = await open_database(sqlite_url(tmp_path / "k.db"))
        store: KeyStore = MemoryKeyStore() if kind == "memory" else SqlKeyStore(database)
        made = await make(KeyRing(store, FakeClock()))
        authenticator = ApiKeyAuthenticator(store, MonotonicClock())
        principal = await authenticator.authenticate(shown(made.text))
        assert principal == made.key.principal
        assert principal == await authenticator.authenticate({"x-api-key": made.text})
        assert made.key.secret_hash.startswith("$argon2id$")
        secret = made.text.split("_")[2]
        assert secret not in str(await store.list(None))
        await database.close()
        assert all(secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())
        assert [key.id for key in await MemoryKeyStore().list(None)] == []

    run(test)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "Basic plk_x"},
        {"x-api-key": ""},
        {"x-api-key": "plk_" + "0" * 16 + "_" + "0" * 64},
        {"x-api-key": "plk_" + "0" * 16 + "_" + "0" * 63},
        {"x-api-key": "plk_" + "0" * 16 + "_" + "0" * 64 + "\n"},
        {"x-api-key": "' OR '1'='1"},
        {"x-api-key": "x" * 100_000},
        {"x-api-key": "plk_\u0660000000000000000_" + "0" * 64},
    ],
)
def test_what_is_no_key_is_refused_without_telling_why(headers: dict[str, str]) -> None:
    async def test() -> None:
        authenticator = ApiKeyAuthenticator(MemoryKeyStore(), FakeClock())
        with pytest.raises(ApiKeyRefused) as caught:
            await authenticator.authenticate(headers)
        assert caught.value.http_status == 401
        assert caught.value.fields() == {}

    run(test)


def test_the_right_id_with_a_wrong_secret_is_refused() -> None:
    async def test() -> None:
        store = MemoryKeyStore()
        made, other = [await make(KeyRing(store, FakeClock())) for _ in range(2)]
        wrong = made.text[: made.text.rindex("_") + 1] + other.text.split("_")[2]
        with pytest.raises(ApiKeyRefused):
            await ApiKeyAuthenticator(store, FakeClock()).authenticate(shown(wrong))

    run(test)


def test_a_verified_key_is_not_hashed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SHA-256 of its text finds it; a key that differs in one character does not."""
    verified: list[str] = []
    real = authentication.is_secret

    def counted(kept: str, secret: str) -> bool:
        verified.append(secret)
        return real(kept, secret)

    monkeypatch.setattr(authentication, "is_secret", counted)

    async def test() -> None:
        store = MemoryKeyStore()
        made = await make(KeyRing(store, FakeClock()))
        authenticator = ApiKeyAuthenticator(store, FakeClock())
        for _ in range(5):
            await authenticator.authenticate(shown(made.text))
        assert len(verified) == 1
        last = "0" if made.text[-1] != "0" else "1"
        with pytest.raises(ApiKeyRefused):
            await authenticator.authenticate(shown(made.text[:-1] + last))

    run(test)


def test_a_revoked_key_is_refused_at_once_here_and_within_the_bound_elsewhere(tmp_path: Path) -> None:
    """X-60: two gateways, one store, two connections, clocks that only move when told."""

    async def test() -> None:
        databases = [await open_database(sqlite_url(tmp_path / "k.db")) for _ in range(2)]
        stores, clocks = [SqlKeyStore(d) for d in databases], [FakeClock(), FakeClock()]
        here, elsewhere = [ApiKeyAuthenticator(s, c) for s, c in zip(stores, clocks, strict=True)]
        ring = KeyRing(stores[0], clocks[0], here.forget)
        made, stays = await make(ring), await make(ring)
        for authenticator in (here, elsewhere):
            await authenticator.authenticate(shown(made.text))
        await ring.revoke(LOCAL_PRINCIPAL, made.key.id)
        with pytest.raises(ApiKeyRefused):
            await here.authenticate(shown(made.text))
        clocks[1].advance(round(REVOCATION_BOUND_S * 1e9))
        with pytest.raises(ApiKeyRefused):
            await elsewhere.authenticate(shown(made.text))
        assert await elsewhere.authenticate(shown(stays.text)) == stays.key.principal
        revoked = await ring.revoke(LOCAL_PRINCIPAL, made.key.id)
        assert revoked.revoked_wall_ns is not None, "a second time changes nothing"
        for database in databases:
            await database.close()

    run(test)


def test_a_key_that_is_revoked_during_its_verification_is_not_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        store = MemoryKeyStore()
        made = await make(KeyRing(store, FakeClock()))
        authenticator = ApiKeyAuthenticator(store, FakeClock())
        loop = asyncio.get_running_loop()

        def revoked_meanwhile(kept: str, secret: str) -> bool:
            asyncio.run_coroutine_threadsafe(store.revoke(made.key.id, 1), loop).result(5)
            return True

        monkeypatch.setattr(authentication, "is_secret", revoked_meanwhile)
        with pytest.raises(ApiKeyRefused):
            await authenticator.authenticate(shown(made.text))

    run(test)


def test_nobody_is_let_in_while_the_store_does_not_answer() -> None:
    """It fails closed: whether the key was revoked cannot be told."""

    class Silent(MemoryKeyStore):
        is_silent = False

        async def epoch(self) -> int:
            if self.is_silent:
                raise StoreUnavailable(reason="test")
            return await super().epoch()

    async def test() -> None:
        store, clock = Silent(), FakeClock()
        made = await make(KeyRing(store, FakeClock()))
        authenticator = ApiKeyAuthenticator(store, clock)
        await authenticator.authenticate(shown(made.text))
        store.is_silent = True
        clock.advance(10**9)
        with pytest.raises(StoreUnavailable):
            await authenticator.authenticate(shown(made.text))

    run(test)


def test_a_tenant_manages_its_own_keys_and_the_local_one_manages_all() -> None:
    """X-63."""

    async def test() -> None:
        ring = KeyRing(MemoryKeyStore(), FakeClock())
        mine, other = await make(ring, "acme"), await make(ring, "other")
        assert [k.id for k in await ring.list(OF_ACME)] == [mine.key.id]
        assert len(await ring.list(LOCAL_PRINCIPAL)) == 2
        with pytest.raises(KeyUnknown):
            await ring.revoke(OF_ACME, other.key.id)
        for tenant in ("other", LOCAL_TENANT):
            with pytest.raises(TenantRefused):
                await ring.create(OF_ACME, tenant=tenant, roles=["admin"], rate=None, name="")

    run(test)


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": ""}, {"tenant": "a/b"}, {"tenant": "x" * 65}, {"roles": []}, {"roles": ["root"]},
        {"rate": "fast"}, {"rate": "0/second"}, {"rate": "999999999/second"}, {"rate": "1/" + "s" * 99},
        {"name": "x" * 201}, {"name": "a\u0000b"}, {"name": "\ud800"},
    ],
    ids=str,
)  # fmt: skip
def test_a_key_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    async def test() -> None:
        asked: dict[str, Any] = {"tenant": "t", "roles": ["client"], "rate": None, "name": "", **change}
        with pytest.raises(KeyRequestRefused):
            await KeyRing(MemoryKeyStore(), FakeClock()).create(LOCAL_PRINCIPAL, **asked)

    run(test)


def test_the_request_over_the_rate_says_when_to_come_again_and_another_key_is_not_held_up() -> None:
    """X-64: N+1."""
    rates = RateLimiter()
    for _ in range(3):
        rates.spend("one", "3/hour")
    with pytest.raises(RateExceeded) as caught:
        rates.spend("one", "3/hour")
    assert 0 < caught.value.retry_after_s <= 3600
    assert caught.value.http_status == 429
    rates.spend("two", "3/hour")
    assert parse_rate("2000/5 minutes").amount == 2000


@pytest.mark.parametrize("permission", list(Permission))
@pytest.mark.parametrize("role", list(Role))
def test_a_role_has_the_permissions_of_the_table(role: Role, permission: Permission) -> None:
    """X-62: written out, so that a change of the table is a change of this test."""
    client = {"read", "infer", "tasks"}
    table = {
        Role.CLIENT: client,
        Role.OPERATOR: client | {"models", "devices", "metrics"},
        Role.ADMIN: client | {"models", "devices", "metrics", "keys"},
    }
    principal = Principal(id="x", tenant=TenantId("t"), roles=frozenset({role}))
    if permission.value in table[role]:
        verify_permission(principal, permission)
    else:
        with pytest.raises(PermissionRefused):
            verify_permission(principal, permission)


def test_a_principal_without_roles_may_nothing_and_the_local_one_everything() -> None:
    """X-54."""
    nobody = Principal(id="x", tenant=TenantId("t"), roles=frozenset())
    local = asyncio.run(LocalAuthenticator().authenticate({}))
    assert local is LOCAL_PRINCIPAL
    for permission in Permission:
        LocalAuthenticator().authorise(local, permission)
        with pytest.raises(PermissionRefused):
            verify_permission(nobody, permission)
    assert set(ROLE_PERMISSIONS) == set(Role)


def test_a_key_that_was_shown_cannot_be_printed() -> None:
    presented = parse_key("plk_" + "0" * 16 + "_" + "a" * 64)
    assert isinstance(presented, PresentedKey)
    assert "a" * 64 not in repr(presented)
