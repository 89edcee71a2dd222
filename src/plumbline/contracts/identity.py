"""Who is asking: a principal of a tenant with roles."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from plumbline.contracts.requests import LOCAL_TENANT, TenantId

__all__ = ["LOCAL_PRINCIPAL", "Principal", "Role"]


class Role(StrEnum):
    """What a principal may do. `serving.identity` holds the table of roles and routes."""

    ADMIN = "admin"
    OPERATOR = "operator"
    CLIENT = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Attributes:
    id: stable name: `local`, or the id of an API key; never the key itself.
    tenant: whose data it sees.
    roles: what it may do.
    """

    id: str
    tenant: TenantId
    roles: frozenset[Role]


LOCAL_PRINCIPAL = Principal(id="local", tenant=LOCAL_TENANT, roles=frozenset(Role))
"""Whoever reaches a loopback listener that asks for no key (requirement X-54)."""
