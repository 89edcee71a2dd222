"""The gRPC listener, on the event loop of the gateway."""

from __future__ import annotations

import logging
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from plumbline.serving.gateway.binding import ListenerUnavailable, verify_port
from plumbline.serving.gateway.flights import Flights
from plumbline.serving.gateway.parts import Gateway
from plumbline.serving.grpc import open_inference_pb2 as pb
from plumbline.serving.grpc.service import SERVICE, InferenceGrpc

__all__ = ["GrpcServer", "start_grpc_server"]

_HEALTH = "grpc.health.v1.Health"


class GrpcServer:
    """A running listener. Owner of the grpc.aio server."""

    def __init__(self, server: Any, port: int) -> None:
        self._server, self.port = server, port

    async def stop(self, grace_s: float) -> None:
        """Take nothing new, give calls in flight `grace_s` seconds, and close."""
        await self._server.stop(grace_s)


async def start_grpc_server(parts: Gateway, flights: Flights, *, host: str, port: int) -> GrpcServer:
    """Listen and answer.

    Args:
        parts: of the gateway.
        flights: requests in flight, shared with HTTP.
        host: address; the caller has verified that it may be listened on.
        port: 0 takes a free one; `GrpcServer.port` says which.

    Raises:
        ListenerUnavailable: the address or port cannot be had.
    """
    verify_port(host, port)
    limits = parts.limits
    server: Any = grpc.aio.server(
        maximum_concurrent_rpcs=limits.max_requests + 64,
        options=(
            ("grpc.max_receive_message_length", limits.max_body_bytes),
            ("grpc.max_send_message_length", 2**31 - 1),
            ("grpc.max_metadata_size", limits.max_header_bytes),
            ("grpc.so_reuseport", 0),
        ),
    )
    server.add_generic_rpc_handlers(
        (InferenceGrpc(parts, flights).handlers(), _health_handlers(parts, flights))
    )
    reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server, _pool())
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    logging.getLogger("grpc").addHandler(logging.NullHandler())
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise ListenerUnavailable(host=host, port=port, reason="gRPC cannot bind it")
    await server.start()
    return GrpcServer(server, bound)


def _pool() -> Any:
    return pb.DESCRIPTOR.pool


def _health_handlers(parts: Gateway, flights: Flights) -> grpc.GenericRpcHandler:
    """`grpc.health.v1.Health/Check`: of the server, or of this service."""

    async def check(request: Any, context: Any) -> Any:
        if request.service not in ("", SERVICE):
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        ready = parts.health.readiness()[0] and not flights.is_draining
        status = health_pb2.HealthCheckResponse.ServingStatus
        return health_pb2.HealthCheckResponse(status=status.SERVING if ready else status.NOT_SERVING)

    method = grpc.unary_unary_rpc_method_handler(
        check,
        request_deserializer=health_pb2.HealthCheckRequest.FromString,
        response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(_HEALTH, {"Check": method})
