"""The one problem document (RFC 9457) of every error of every route."""

from __future__ import annotations

import logging
import math
import re
import traceback
from typing import Any
from urllib.parse import quote

import msgspec

from plumbline.errors import PlumblineError, Recoverability
from plumbline.serving.gateway.refusals import InternalFault
from plumbline.serving.open_inference.exchange import Answer

__all__ = ["PROBLEM_JSON", "as_plumbline_error", "problem_answer", "problem_document", "without_paths"]

PROBLEM_JSON = b"application/problem+json"

_log = logging.getLogger("plumbline.gateway")
_encode = msgspec.json.Encoder().encode
_PATH = re.compile(
    r"(?<![\w.:/~])(?:~|/(?!v2/|v1/|api/|health|metrics|ws\b|docs))(?:[\w.+@%-]*/)+([\w.+@%-]*)"
)


def without_paths(text: str) -> str:
    """Text with machine paths shortened to their last part. Addresses of our own routes stay.

    >>> without_paths("cannot read /srv/models/a/model.onnx at 7")
    'cannot read .../model.onnx at 7'
    >>> without_paths("there is nothing at /v2/models/a/b")
    'there is nothing at /v2/models/a/b'
    """
    if "/" not in text:
        return text
    return _PATH.sub(r".../\1", text)


def problem_document(error: PlumblineError, request_id: str, *, with_error_member: bool) -> dict[str, Any]:
    """The document of an error.

    Args:
        error: what happened.
        request_id: of the request.
        with_error_member: whether to repeat the detail as `error`, for clients of the `/v2` family.

    Returns:
        JSON-ready: type, title, status, detail, instance, code, class, recoverability, side_effect,
        request_id, fields, context, and retry_after (seconds) where a retry may work.
    """
    raw = error.to_dict()
    detail = without_paths(raw["message"])
    document: dict[str, Any] = {
        "type": f"urn:plumbline:error:{error.code}",
        "title": _title(error),
        "status": error.http_status,
        "detail": detail,
        "instance": f"urn:plumbline:request:{quote(request_id, safe='')}",
        "code": error.code,
        "class": raw["class"],
        "recoverability": raw["recoverability"],
        "side_effect": raw["side_effect"],
        "request_id": request_id,
        "fields": _scrubbed(raw["fields"]),
        "context": raw["context"],
    }
    retry_after_s = retry_after(error)
    if retry_after_s is not None:
        document["retry_after"] = retry_after_s
    if with_error_member:
        document["error"] = detail
    return document


def problem_answer(error: PlumblineError, request_id: str, *, with_error_member: bool) -> Answer:
    """The document as an answer, with `Retry-After` where a retry may work."""
    document = problem_document(error, request_id, with_error_member=with_error_member)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if "retry_after" in document:
        headers = ((b"retry-after", b"%d" % max(1, math.ceil(document["retry_after"]))),)
    if error.http_status == 405:
        headers += ((b"allow", str(document["fields"].get("allowed", "")).encode("latin-1", "replace")),)
    if error.http_status == 401:
        headers += ((b"www-authenticate", b'Bearer realm="plumbline"'),)
    return Answer(status=error.http_status, body=_encode(document), media_type=PROBLEM_JSON, headers=headers)


def retry_after(error: PlumblineError) -> float | None:
    """Seconds until a retry may work; None when it cannot."""
    if error.recoverability is not Recoverability.TRANSIENT:
        return None
    seconds = getattr(error, "retry_after_s", 1.0)
    return float(seconds) if math.isfinite(seconds) and seconds >= 0 else 1.0


def as_plumbline_error(error: Exception, request_id: str) -> PlumblineError:
    """The error itself, or `InternalFault` for anything that nobody raised on purpose; that is logged by its
    type and places, never by its text, which may hold contents of a request.
    """
    if isinstance(error, PlumblineError):
        return error
    places = " < ".join(
        f"{frame.name}:{frame.lineno}" for frame in reversed(traceback.extract_tb(error.__traceback__)[-8:])
    )
    _log.error("internal fault %s in request %s at %s", type(error).__name__, request_id, places)
    return InternalFault(kind=type(error).__name__)


def _title(error: PlumblineError) -> str:
    text = (error.__doc__ or error.code).strip().split("\n\n")[0]
    return " ".join(text.split())


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return without_paths(value)
    if isinstance(value, list):
        return [_scrubbed(item) for item in value]
    if isinstance(value, dict):
        return {name: _scrubbed(item) for name, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
