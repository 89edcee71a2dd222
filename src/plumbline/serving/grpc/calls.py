"""What every call goes through: request id, room, who asks, deadline, and one typed outcome."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from plumbline.contracts.identity import LOCAL_PRINCIPAL, Principal
from plumbline.contracts.requests import RequestId, verify_request_id
from plumbline.errors import PlumblineError, ValidationError
from plumbline.serving.gateway.asgi import Message
from plumbline.serving.gateway.flights import Flights
from plumbline.serving.gateway.parts import Gateway
from plumbline.serving.gateway.problems import as_plumbline_error, without_paths
from plumbline.serving.gateway.request_ids import RequestIds
from plumbline.serving.grpc.messages import Caller
from plumbline.serving.grpc.statuses import status_of, trailing_metadata
from plumbline.serving.ports import Permission

__all__ = [
    "Calls",
    "Context",
    "Handle",
    "MessageUnreadable",
    "as_error_message",
    "nothing_more",
    "read_message",
]

Context = Any
"""`grpc.aio.ServicerContext`: grpcio has no types."""
Handle = Callable[[Any, Caller], Awaitable[Any]]
Method = Callable[[bytes, Context], Awaitable[Any]]


@dataclass(eq=False, kw_only=True)
class MessageUnreadable(ValidationError):
    """Bytes that are no message of the method: damaged, of another type, or text that is not UTF-8."""

    code = "validation.grpc_message"
    owner = "serving.grpc"
    template = "the message cannot be read as {expected}"

    expected: str


def read_message(kind: Any, raw: bytes) -> Any:
    """A message of the given generated type. Not done by the gRPC library, whose refusal is untyped.

    Raises:
        MessageUnreadable: the bytes are none.
    """
    try:
        return kind.FromString(raw)
    except DecodeError:
        raise MessageUnreadable(expected=kind.DESCRIPTOR.full_name) from None


class Calls:
    """Lets calls in and turns every failure into one status. Owns nothing but a counter."""

    def __init__(self, parts: Gateway, flights: Flights) -> None:
        self._parts, self._flights = parts, flights
        self._ids = RequestIds("g", flights.has)

    def guarded(self, handle: Handle, kind: Any, permission: Permission | None) -> Method:
        """A method of the service, which gets bytes, from one without gRPC that gets messages of `kind`."""

        async def method(raw: bytes, context: Context) -> Any:
            arrived_ns = self._parts.clock.now_ns()
            request_id, entered = self.new_id(), False
            try:
                request_id = self.identify(context, request_id)
                caller = await self.caller(context, request_id, permission, arrived_ns)
                if permission is not None:
                    self._flights.enter(request_id, nothing_more)
                    entered = True
                answer = await handle(read_message(kind, raw), caller)
                context.set_trailing_metadata((("x-request-id", request_id),))
                self._observe(handle, "OK", arrived_ns)
                return answer
            except Exception as error:  # noqa: BLE001 (one unit of work fails as our bug)
                known = as_plumbline_error(error, request_id)
                self._observe(handle, status_of(known).name, arrived_ns)
                detail = without_paths(known.message)
                await context.abort(status_of(known), detail, trailing_metadata(known, request_id))
            finally:
                if entered:
                    self._flights.leave(request_id)

        return method

    def new_id(self) -> RequestId:
        """A request id that no other request of this process has."""
        return self._ids.make()

    def identify(self, context: Context, otherwise: RequestId) -> RequestId:
        """The id that the client gave in `x-request-id`, verified, or the other."""
        given = _metadata(context).get("x-request-id")
        return otherwise if given is None else verify_request_id(given)

    async def caller(
        self, context: Context, request_id: RequestId, permission: Permission | None, arrived_ns: int
    ) -> Caller:
        """Who calls, and until when. Raises what the authenticator raises."""
        metadata = _metadata(context)
        principal = await self._principal(metadata, permission)
        remaining_s = context.time_remaining()
        traceparent = metadata.get("traceparent", "")
        return Caller(
            request_id=request_id,
            principal=principal,
            arrived_ns=arrived_ns,
            deadline_ns=None if remaining_s is None else arrived_ns + int(remaining_s * 1e9),
            traceparent=traceparent if len(traceparent) <= 64 else "",
        )

    async def _principal(self, metadata: dict[str, str], permission: Permission | None) -> Principal:
        authenticator = self._parts.authenticator
        if authenticator is None or permission is None:
            return LOCAL_PRINCIPAL
        principal = await authenticator.authenticate(metadata)
        authenticator.authorise(principal, permission)
        authenticator.spend(principal)
        return principal

    def _observe(self, handle: Handle, status: str, arrived_ns: int) -> None:
        if self._parts.observe is not None:
            name = f"grpc/{getattr(handle, '__name__', 'call').strip('_')}"
            number = 200 if status == grpc.StatusCode.OK.name else 500 if status == "INTERNAL" else 400
            self._parts.observe(name, "GRPC", number, self._parts.clock.now_ns() - arrived_ns)


def as_error_message(error: Exception, request_id: str) -> str:
    """The text of an error inside a stream."""
    known: PlumblineError = as_plumbline_error(error, request_id)
    return f"[{known.code}] {without_paths(known.message)}"


def _metadata(context: Context) -> dict[str, str]:
    given = context.invocation_metadata() or ()
    return {name: value for name, value in given if isinstance(value, str)}


async def nothing_more() -> Message:
    """The receive of a flight that is watched by gRPC itself."""
    return {"type": "http.disconnect"}
