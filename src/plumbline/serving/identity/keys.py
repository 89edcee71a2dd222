"""API keys as values: `plk_<id>_<secret>`. The secret is shown once and never kept."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from plumbline.contracts.clock import rfc3339
from plumbline.contracts.identity import Principal, Role
from plumbline.contracts.requests import TenantId
from plumbline.errors import PolicyError, ValidationError

__all__ = [
    "ApiKey",
    "ApiKeyRefused",
    "CreatedKey",
    "KeyRequestRefused",
    "KeyService",
    "KeyUnknown",
    "PresentedKey",
    "generate_key",
    "parse_key",
    "verify_tenant",
]

_KEY = re.compile(r"plk_([0-9a-f]{16})_([0-9a-f]{64})")
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(eq=False, kw_only=True)
class ApiKeyRefused(PolicyError):
    """No key, or one that is malformed, unknown, wrong or revoked; which of these is not told."""

    code = "policy.api_key"
    owner = "serving.identity"
    http_status = 401
    template = "a valid API key is needed: `Authorization: Bearer KEY` or `X-API-Key: KEY`"


@dataclass(eq=False, kw_only=True)
class KeyUnknown(ValidationError):
    """No key of the caller's tenant has this id."""

    code = "validation.api_key_unknown"
    owner = "serving.identity"
    http_status = 404
    template = "there is no key {key!r}"

    key: str


@dataclass(eq=False, kw_only=True)
class KeyRequestRefused(ValidationError):
    """A key was asked for with a tenant, roles or a rate that it cannot have."""

    code = "validation.api_key_request"
    owner = "serving.identity"
    template = "API key: {reason}"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is kept.

    Attributes:
        id: public part.
        tenant: whose data it sees.
        roles: what it may do.
        rate: requests that it may make, such as `100/second`.
        name: what people call it.
        secret_hash: argon2id of the secret.
        created_wall_ns: when; revoked_wall_ns: None while it works.
    """

    id: str
    tenant: TenantId
    roles: frozenset[Role]
    rate: str
    name: str
    secret_hash: str
    created_wall_ns: int
    revoked_wall_ns: int | None = None

    @property
    def principal(self) -> Principal:
        """Who presents it."""
        return Principal(id=self.id, tenant=self.tenant, roles=self.roles)

    def to_document(self) -> dict[str, Any]:
        """Plain JSON values, without the hash."""
        revoked = self.revoked_wall_ns
        return {
            "id": self.id,
            "tenant": self.tenant,
            "roles": sorted(role.value for role in self.roles),
            "rate": self.rate,
            "name": self.name,
            "created_at": rfc3339(self.created_wall_ns),
            "revoked_at": None if revoked is None else rfc3339(revoked),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedKey:
    """A new key and its text: the only time that it is seen."""

    key: ApiKey
    text: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PresentedKey:
    """What a client showed. Has no representation that could be logged."""

    id: str
    secret: str


class KeyService(Protocol):
    """Keys created, listed and revoked. The local tenant manages all keys, others those of their tenant."""

    async def create(
        self, principal: Principal, *, tenant: str, roles: Sequence[str], rate: str | None, name: str
    ) -> CreatedKey:
        """A new key. Raises: an impossible tenant, role or rate (400); another's tenant (403)."""

    async def list(self, principal: Principal) -> Sequence[ApiKey]:
        """Keys that the caller manages, revoked ones too, oldest first."""

    async def revoke(self, principal: Principal, key: str) -> ApiKey:
        """Ends a key at once here, and within `REVOCATION_BOUND_S` at every gateway of the store. Raises:
        unknown (404).
        """


def generate_key() -> tuple[PresentedKey, str]:
    """A new id and secret (256 random bits), and the text that shows both."""
    presented = PresentedKey(id=secrets.token_hex(8), secret=secrets.token_hex(32))
    return presented, f"plk_{presented.id}_{presented.secret}"


def parse_key(text: str) -> PresentedKey:
    """The parts of a key.

    Raises:
        ApiKeyRefused: it is not one.
    """
    match = _KEY.fullmatch(text)
    if match is None:
        raise ApiKeyRefused()
    return PresentedKey(id=match[1], secret=match[2])


def verify_tenant(name: str) -> TenantId:
    """The tenant itself.

    Raises:
        KeyRequestRefused: it has characters or a length that a tenant cannot have.
    """
    if not _TENANT.fullmatch(name):
        raise KeyRequestRefused(reason="a tenant is 1 to 64 letters, digits, `.`, `_` or `-`")
    return TenantId(name)
