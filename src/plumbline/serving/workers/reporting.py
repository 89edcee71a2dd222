"""Errors on their way from a worker: as data, never as pickles; rebuilt as the class that they were."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any, get_type_hints

import msgspec

from plumbline.errors import ErrorContext, PlumblineError
from plumbline.serving.workers.failures import WorkerBroken, WorkerReported
from plumbline.serving.workers.protocol import Failure

__all__ = ["as_plumbline", "rebuild", "report"]

_MAX_TEXT = 4000
_MAX_TITLE = 1000
_MAX_FIELDS_BYTES = 16384


def as_plumbline(error: BaseException, what: str) -> PlumblineError:
    """The error itself when it is typed, else one that says what broke."""
    if isinstance(error, PlumblineError):
        return error
    return WorkerBroken(what=what, kind=type(error).__name__, reason=str(error)[:_MAX_TEXT])


def report(error: PlumblineError) -> Failure:
    """For the way to the gateway."""
    context = error.context
    return Failure(
        code=error.code,
        error_class=error.error_class.value,
        recoverability=error.recoverability.value,
        side_effect=error.side_effect.value,
        owner=error.owner,
        http_status=error.http_status,
        message=error.message[:_MAX_TEXT],
        fields=_bounded(error.to_dict()["fields"]),
        context=(context.module, context.line, context.function),
        title=(error.__doc__ or "")[:_MAX_TITLE],
    )


def _bounded(fields: dict[str, Any]) -> dict[str, Any]:
    """A message from a worker stays far below its limit, whatever an error carries."""
    try:
        return fields if len(msgspec.msgpack.encode(fields, enc_hook=str)) <= _MAX_FIELDS_BYTES else {}
    except (OverflowError, TypeError, ValueError, RecursionError):
        return {}


def rebuild(failure: Failure) -> PlumblineError:
    """What the worker raised: of the same class when this process knows it and the fields fit, else
    `WorkerReported`, which answers alike.
    """
    error = _as_known(failure) or _as_reported(failure)
    error.context = ErrorContext(*failure.context)
    return error


def _as_known(failure: Failure) -> PlumblineError | None:
    kind = _leaf(failure.code)
    if kind is None or not dataclasses.is_dataclass(kind):
        return None
    try:
        hints = _field_types(kind)
        fields = {name: msgspec.convert(failure.fields[name], hints[name], strict=False) for name in hints}
        return kind(**fields)
    except (KeyError, TypeError, ValueError, NameError):
        return None


def _as_reported(failure: Failure) -> PlumblineError:
    retry_after_s = failure.fields.get("retry_after_s")
    return WorkerReported(
        reported_code=failure.code,
        reported_class=failure.error_class,
        reported_recoverability=failure.recoverability,
        reported_side_effect=failure.side_effect,
        reported_owner=failure.owner,
        reported_status=failure.http_status if 400 <= failure.http_status <= 599 else 500,
        text=failure.message,
        reported_title=failure.title,
        retry_after_s=float(retry_after_s) if isinstance(retry_after_s, int | float) else None,
    )


def _field_types(kind: type[PlumblineError]) -> dict[str, Any]:
    if kind not in _fields:
        hints = get_type_hints(kind)
        _fields[kind] = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    return _fields[kind]


_fields: dict[type[PlumblineError], dict[str, Any]] = {}
_leaves: dict[str, type[PlumblineError]] = {}
_leaves_lock = threading.Lock()


def _leaf(code: str) -> type[PlumblineError] | None:
    """The class of a code, among all that are imported by now."""
    if code not in _leaves:
        with _leaves_lock:
            pending: list[type[PlumblineError]] = [PlumblineError]
            while pending:
                kind = pending.pop()
                _leaves.setdefault(kind.code, kind)
                pending += kind.__subclasses__()
    return _leaves.get(code)
