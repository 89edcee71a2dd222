"""Every error of the native API as the one problem document, and its declaration in OpenAPI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plumbline.errors import PlumblineError, ValidationError
from plumbline.serving.gateway.problems import as_plumbline_error, problem_answer
from plumbline.serving.gateway.refusals import MethodRefused, RouteUnknown

__all__ = ["FaultBarrier", "NotOffered", "RequestRefused", "errors", "install_problems"]

_WORDS = {
    400: "The request is not one that this route reads",
    401: "A valid API key is needed",
    403: "Not allowed to this key",
    404: "There is no such thing",
    406: "No such version of the API",
    408: "The body came too slowly",
    409: "Not possible in the present state",
    413: "Larger than what is taken",
    415: "Another media type is wanted",
    429: "Too often, or too much at once; `Retry-After` says when",
    503: "Not now; `Retry-After` says when",
}


@dataclass(eq=False, kw_only=True)
class RequestRefused(ValidationError):
    """A body, path or query parameter that the route's document does not allow."""

    code = "validation.request"
    owner = "serving.api"
    template = "{where}: {reason}"

    where: str
    reason: str


@dataclass(eq=False, kw_only=True)
class NotOffered(ValidationError):
    """A route whose service this gateway was started without."""

    code = "validation.not_offered"
    owner = "serving.api"
    http_status = 404
    template = "this gateway has no {service}"

    service: str


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declares the problem document for these statuses, for those of every route, and as the default."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    declared: dict[int | str, dict[str, Any]] = {
        status: {"description": _WORDS[status], "content": content}
        for status in sorted({400, 401, 403, 429, 503, *statuses})
    }
    return {**declared, "default": {"description": "Any other error", "content": content}}


def install_problems(application: FastAPI) -> None:
    """Make every failure of an application a problem document."""
    application.add_exception_handler(PlumblineError, _answer)
    application.add_exception_handler(RequestValidationError, _answer)
    application.add_exception_handler(HTTPException, _answer)
    application.add_middleware(FaultBarrier)


class FaultBarrier:
    """Answers for exceptions that nobody raised on purpose: our bug, one problem document, no text of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if started:
                raise
            fault = as_plumbline_error(error, request_id_of(scope))
            await _response(fault, scope)(scope, receive, send)


def request_id_of(scope: Scope) -> str:
    """The id that the shell gave to a request."""
    return str(scope.get("state", {}).get("request_id", ""))


async def _answer(request: Request, error: Exception) -> Response:
    return _response(_typed(request, error), request.scope)


def _response(error: PlumblineError, scope: Scope) -> Response:
    answer = problem_answer(error, request_id_of(scope), with_error_member=False)
    response = Response(answer.body, answer.status, media_type=answer.media_type.decode())
    for name, value in answer.headers:
        response.headers[name.decode("latin-1")] = value.decode("latin-1")
    return response


def _typed(request: Request, error: Exception) -> PlumblineError:
    if isinstance(error, PlumblineError):
        return error
    if isinstance(error, RequestValidationError):
        return _refused(error.errors())
    status = error.status_code if isinstance(error, HTTPException) else 500
    path = ascii(request.scope["path"])[1:-1][:200]
    if status == 404:
        return RouteUnknown(path=path)
    if status == 405:
        allowed = (getattr(error, "headers", None) or {}).get("Allow", "")
        return MethodRefused(path=path, allowed=allowed)
    if status == 400:
        return RequestRefused(where="body", reason="it is not a JSON document")
    return as_plumbline_error(error, request_id_of(request.scope))


def _refused(found: Sequence[Any]) -> RequestRefused:
    first = found[0] if found else {}
    where = ".".join(str(part)[:40] for part in first.get("loc", ()))[:200] or "request"
    reason = "it is not a JSON document" if first.get("type") == "json_invalid" else str(first.get("msg", ""))
    return RequestRefused(where=_plain(where), reason=_plain(reason)[:300])


def _plain(text: str) -> str:
    """Text that any encoding can carry: keys of clients may hold half a surrogate pair."""
    return text.encode("utf-8", "backslashreplace").decode()
