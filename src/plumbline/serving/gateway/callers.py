"""Who asks, and whether they may."""

from __future__ import annotations

from collections.abc import Mapping

from plumbline.contracts.identity import LOCAL_PRINCIPAL, Principal
from plumbline.serving.ports import Authenticator, Permission

__all__ = ["identify"]


async def identify(
    authenticator: Authenticator | None, headers: Mapping[bytes, bytes], permission: Permission | None
) -> Principal:
    """The caller, who has the permission and a request left; without an authenticator the local one.

    Args:
        authenticator: of the gateway, or None.
        headers: lower-case names.
        permission: that is asked for, or None where whoever answers asks for it.

    Raises:
        PlumblineError: no key, a wrong one, no permission, or too many requests.
    """
    if authenticator is None:
        return LOCAL_PRINCIPAL
    texts = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
    principal = await authenticator.authenticate(texts)
    if permission is not None:
        authenticator.authorise(principal, permission)
    authenticator.spend(principal)
    return principal
