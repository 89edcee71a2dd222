"""Heads of requests: how large they may be, and which headers may stand in them once."""

from __future__ import annotations

from collections.abc import Mapping

from plumbline.serving.gateway.asgi import Scope
from plumbline.serving.gateway.limits import GatewayLimits
from plumbline.serving.gateway.refusals import HeadersTooLarge

__all__ = ["infer_target", "verify_head"]

_SINGLE = (
    b"authorization",
    b"x-api-key",
    b"x-request-id",
    b"host",
    b"origin",
    b"content-length",
    b"content-type",
    b"content-encoding",
    b"inference-header-content-length",
)


def verify_head(scope: Scope, headers: Mapping[bytes, bytes], limits: GatewayLimits) -> None:
    """The head of a request is within the limits, and says nothing twice that has one meaning.

    Args:
        scope: of ASGI.
        headers: its headers by name; of a repeated header the last value.
        limits: of the gateway.

    Raises:
        HeadersTooLarge: naming what is too much.
    """
    raw: list[tuple[bytes, bytes]] = scope["headers"]
    if len(raw) != len(headers):
        _verify_single(raw)
    if len(raw) > limits.max_headers:
        raise HeadersTooLarge(reason=f"{len(raw)}, at most {limits.max_headers}")
    size = len(b"".join(headers)) + len(b"".join(headers.values()))
    if size > limits.max_header_bytes:
        raise HeadersTooLarge(reason=f"{size} bytes, at most {limits.max_header_bytes}")
    if len(scope["path"]) + len(scope.get("query_string", b"")) > limits.max_path_bytes:
        raise HeadersTooLarge(reason=f"the address is longer than {limits.max_path_bytes} bytes")


def infer_target(path: str) -> tuple[str, str | None] | None:
    """Model and version of an address of `/infer`; None for any other address.

    >>> infer_target("/v2/models/m/versions/3/infer")
    ('m', '3')
    """
    if not (path.endswith("/infer") and path.startswith("/v2/models/")):
        return None
    parts = path.split("/")
    if len(parts) == 5 and parts[3]:
        return parts[3], None
    if len(parts) == 7 and parts[3] and parts[4] == "versions" and parts[5]:
        return parts[3], parts[5]
    return None


def _verify_single(raw: list[tuple[bytes, bytes]]) -> None:
    seen: set[bytes] = set()
    for name, _ in raw:
        if name in seen and name in _SINGLE:
            raise HeadersTooLarge(reason=f"{name.decode()} is given twice")
        seen.add(name)
