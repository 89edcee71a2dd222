"""The gRPC listener."""

from __future__ import annotations

from plumbline.serving.gateway.flights import Flights
from plumbline.serving.gateway.parts import Gateway

__all__ = ["GrpcServer", "start_grpc_server"]


class GrpcServer:
    """A running gRPC listener."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def stop(self, grace_s: float) -> None:
        """Stop."""


async def start_grpc_server(parts: Gateway, flights: Flights, *, host: str, port: int) -> GrpcServer:
    """Start."""
    raise NotImplementedError
