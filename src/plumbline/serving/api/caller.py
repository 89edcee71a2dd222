"""Who calls a route, and whether they may: the one place that asks the authenticator."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from plumbline.contracts.identity import Principal
from plumbline.serving.api.parts import NativeParts
from plumbline.serving.identity.authentication import LocalAuthenticator
from plumbline.serving.ports import Authenticator, Permission

__all__ = [
    "DeviceOperator",
    "InferenceCaller",
    "KeyManager",
    "ModelOperator",
    "Needs",
    "Parts",
    "Reader",
    "TaskCaller",
    "authenticator_of",
    "parts_of",
]

_LOCAL = LocalAuthenticator()


def parts_of(request: Request) -> NativeParts:
    """The parts of the application that a request came to."""
    return cast(NativeParts, request.app.state.parts)


def authenticator_of(parts: NativeParts) -> Authenticator:
    """Of these parts; without one, everyone is the local principal."""
    return _LOCAL if parts.authenticator is None else parts.authenticator


class Needs:
    """A dependency: the principal of a request that has a permission. Its route's documents name it."""

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    async def __call__(self, request: Request) -> Principal:
        """The principal that the shell found, or else the authenticator.

        Raises:
            PlumblineError: nobody (401), not allowed (403), too often (429).
        """
        authenticator = authenticator_of(parts_of(request))
        principal: Principal | None = request.scope.get("state", {}).get("principal")
        if principal is None:
            principal = await authenticator.authenticate(dict(request.headers))
            authenticator.spend(principal)
        authenticator.authorise(principal, self.permission)
        return principal


Parts = Annotated[NativeParts, Depends(parts_of)]
Reader = Annotated[Principal, Depends(Needs(Permission.READ))]
InferenceCaller = Annotated[Principal, Depends(Needs(Permission.INFER))]
TaskCaller = Annotated[Principal, Depends(Needs(Permission.TASKS))]
ModelOperator = Annotated[Principal, Depends(Needs(Permission.MODELS))]
DeviceOperator = Annotated[Principal, Depends(Needs(Permission.DEVICES))]
KeyManager = Annotated[Principal, Depends(Needs(Permission.KEYS))]
