"""Errors as gRPC says them: a status code, the detail, and the problem document in the trailing metadata."""

from __future__ import annotations

import math

import grpc
import msgspec

from plumbline.errors import ErrorClass, PlumblineError, Recoverability
from plumbline.serving.gateway.problems import problem_document, retry_after
from plumbline.serving.open_inference.refusals import ExtensionRefused

__all__ = ["status_of", "trailing_metadata"]

_BY_HTTP_STATUS = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_THERE_ALREADY = frozenset({"validation.duplicate_request", "validation.version_exists"})
"""The conflicts that are about something with the same name; the others need a change first."""
_BY_CLASS = {
    ErrorClass.ARTIFACT: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorClass.VALIDATION: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorClass.RESOURCE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorClass.POLICY: grpc.StatusCode.PERMISSION_DENIED,
}
_MOST_PROBLEM_BYTES = 4096


def status_of(error: PlumblineError) -> grpc.StatusCode:
    """The status code of an error. Only a transient one is `UNAVAILABLE`, which clients retry."""
    if isinstance(error, ExtensionRefused):
        return grpc.StatusCode.UNIMPLEMENTED
    if error.code in _THERE_ALREADY:
        return grpc.StatusCode.ALREADY_EXISTS
    named = _BY_HTTP_STATUS.get(error.http_status)
    if named is not None:
        return named
    if error.recoverability is Recoverability.TRANSIENT:
        return grpc.StatusCode.UNAVAILABLE
    return _BY_CLASS.get(error.error_class, grpc.StatusCode.INTERNAL)


def trailing_metadata(error: PlumblineError, request_id: str) -> tuple[tuple[str, str | bytes], ...]:
    """`x-request-id`, `plumbline-code`, the problem document in `plumbline-problem-bin`, and for a transient
    error the pause that gRPC clients obey.
    """
    document = problem_document(error, request_id, with_error_member=False)
    problem = msgspec.json.encode(document)
    if len(problem) > _MOST_PROBLEM_BYTES:
        small = {**document, "fields": {}, "detail": document["detail"][:1024]}
        problem = msgspec.json.encode(small)
    metadata: tuple[tuple[str, str | bytes], ...] = (
        ("x-request-id", request_id),
        ("plumbline-code", error.code),
        ("plumbline-problem-bin", problem),
    )
    pause_s = retry_after(error)
    if pause_s is None:
        return metadata
    return (*metadata, ("grpc-retry-pushback-ms", str(math.ceil(pause_s * 1000))))
