"""Limits of the door. Everything that a client chooses the size of has one."""

from __future__ import annotations

import resource
from dataclasses import dataclass, field

from plumbline.serving.open_inference.limits import TensorLimits

__all__ = ["GatewayLimits", "connection_room"]

MIB = 1 << 20


def connection_room(wanted: int) -> int:
    """Connections that may be open at once: as many as wanted, and at most three quarters of the descriptors
    of this process, so that workers, logs and the store still get theirs when clients take all they can.
    """
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, descriptors * 3 // 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLimits:
    """Attributes:
    max_body_bytes: of one request, as sent and after inflation.
    max_native_body_bytes: of a request to the native API.
    max_buffered_bytes: of all bodies being read or held at once.
    max_header_bytes: names and values of one request together.
    max_headers: of one request.
    max_path_bytes: of the address, query included.
    max_json_depth: nesting of JSON documents of the native API.
    tensors: of one inference request.
    max_requests: in flight at once, over all connections.
    max_connections: open at once, idle ones included; fewer where the process may hold fewer descriptors.
    max_drained_bytes: of a body that is still read and thrown away after it was refused, so that its sender
        gets to read why.
    drain_timeout_s: for that.
    body_timeout_s: from the end of the headers to the end of the body.
    header_timeout_s: from the connection, or the last answer on it, to the end of the next headers. It also
        ends idle connections.
    """

    max_body_bytes: int = 64 * MIB
    max_native_body_bytes: int = 4 * MIB
    max_buffered_bytes: int = 512 * MIB
    max_header_bytes: int = 32 * 1024
    max_headers: int = 100
    max_path_bytes: int = 8 * 1024
    max_json_depth: int = 64
    max_requests: int = 1024
    max_connections: int = 16_384
    max_drained_bytes: int = 256 * MIB
    drain_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    header_timeout_s: float = 60.0
    tensors: TensorLimits = field(default_factory=TensorLimits)
