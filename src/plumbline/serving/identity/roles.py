"""Which role may do what: one table (requirement X-62)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from plumbline.contracts.identity import Principal, Role
from plumbline.errors import PolicyError
from plumbline.serving.ports import Permission

__all__ = ["ROLE_PERMISSIONS", "PermissionRefused", "may", "verify_permission"]

_CLIENT = frozenset({Permission.READ, Permission.INFER, Permission.TASKS})
_OPERATOR = _CLIENT | {Permission.MODELS, Permission.DEVICES, Permission.METRICS}

ROLE_PERMISSIONS: Mapping[Role, frozenset[Permission]] = {
    Role.CLIENT: _CLIENT,
    Role.OPERATOR: _OPERATOR,
    Role.ADMIN: _OPERATOR | {Permission.KEYS},
}


@dataclass(eq=False, kw_only=True)
class PermissionRefused(PolicyError):
    """No role of the caller has the permission that the route asks for."""

    code = "policy.permission"
    owner = "serving.identity"
    template = "this needs the permission {permission!r}; the roles of this key are {roles}"

    permission: str
    roles: str


def may(principal: Principal, permission: Permission) -> bool:
    """Whether a role of the principal has the permission."""
    return any(permission in ROLE_PERMISSIONS[role] for role in principal.roles)


def verify_permission(principal: Principal, permission: Permission) -> None:
    """Raises `PermissionRefused` where `may` is false."""
    if not may(principal, permission):
        roles = ", ".join(sorted(role.value for role in principal.roles)) or "none"
        raise PermissionRefused(permission=permission.value, roles=roles)
