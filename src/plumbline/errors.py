"""What can go wrong, and what the receiver must do.

Every failure that leaves a Plumbline call is a `PlumblineError`. It answers on three axes:

    class (what kind of thing failed)      recoverability (what to do)     side effect
    ---------------------------------      ---------------------------     -----------
    PlumblineError
    +-- ArtifactError      a file or stored object is damaged, foreign or untrusted
    +-- ValidationError    the caller asked for something that is not allowed
    +-- ResourceError      memory, time, threads or handles ran out
    +-- BackendError       a device, driver or native tool failed
    +-- ExecutionError     a kernel or a run failed
    +-- DecodingError      an output could not be turned into a result
    +-- PolicyError        a rule forbids it

Leaves live beside the code that raises them. A leaf is a keyword-only dataclass with `eq=False`; its
fields say what happened, its `code` is stable, and `template` makes the message from the fields.
"""

from __future__ import annotations

import dataclasses
import sys
from enum import StrEnum
from typing import Any, ClassVar


class ErrorClass(StrEnum):
    """What kind of thing failed (requirements X-26..X-32)."""

    ARTIFACT = "artifact"
    VALIDATION = "validation"
    RESOURCE = "resource"
    BACKEND = "backend"
    EXECUTION = "execution"
    DECODING = "decoding"
    POLICY = "policy"


class Recoverability(StrEnum):
    """What the receiver must do (requirements X-33..X-35)."""

    TRANSIENT = "transient"
    """A retry may work; `retry_after_s` says when."""
    PERMANENT = "permanent"
    """The same call fails the same way until something is changed."""
    FATAL = "fatal"
    """The process that owns the device must end."""


class SideEffect(StrEnum):
    """Whether the failed call may have changed the outside world."""

    NONE = "none"
    KNOWN = "known"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorContext:
    """Where an error was raised: a module (never a machine path), a line and a function."""

    module: str
    line: int
    function: str


@dataclasses.dataclass(eq=False, kw_only=True)
class PlumblineError(Exception):
    """Root of every error that Plumbline raises on purpose."""

    code: ClassVar[str] = "plumbline"
    error_class: ClassVar[ErrorClass] = ErrorClass.EXECUTION
    recoverability: ClassVar[Recoverability] = Recoverability.PERMANENT
    side_effect: ClassVar[SideEffect] = SideEffect.NONE
    owner: ClassVar[str] = "plumbline"
    http_status: ClassVar[int] = 500
    template: ClassVar[str] = "{code}"

    def __post_init__(self) -> None:
        self.context = _caller_context()
        Exception.__init__(self, self.message)

    @property
    def message(self) -> str:
        """The sentence for people, made from the fields."""
        return self.template.format(code=self.code, **self.fields())

    def fields(self) -> dict[str, Any]:
        """The named facts of this failure."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready document. Values that are not plain become text."""
        return {
            "code": self.code,
            "class": self.error_class.value,
            "recoverability": self.recoverability.value,
            "side_effect": self.side_effect.value,
            "owner": self.owner,
            "message": self.message,
            "fields": {name: _plain(value) for name, value in self.fields().items()},
            "context": dataclasses.asdict(self.context),
        }

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.fields(), self.context))


class ArtifactError(PlumblineError):
    """A file or stored object is damaged, foreign or untrusted."""

    code = "artifact"
    error_class = ErrorClass.ARTIFACT
    http_status = 422


class ValidationError(PlumblineError):
    """The caller asked for something that is not allowed."""

    code = "validation"
    error_class = ErrorClass.VALIDATION
    http_status = 400


class ResourceError(PlumblineError):
    """Memory, time, threads or handles ran out."""

    code = "resource"
    error_class = ErrorClass.RESOURCE
    http_status = 503


class BackendError(PlumblineError):
    """A device, driver or native tool failed."""

    code = "backend"
    error_class = ErrorClass.BACKEND
    http_status = 502


class ExecutionError(PlumblineError):
    """A kernel or a run failed."""

    code = "execution"
    error_class = ErrorClass.EXECUTION
    http_status = 500


class DecodingError(PlumblineError):
    """An output could not be turned into a result."""

    code = "decoding"
    error_class = ErrorClass.DECODING
    http_status = 500


class PolicyError(PlumblineError):
    """A rule forbids it."""

    code = "policy"
    error_class = ErrorClass.POLICY
    http_status = 403


def _caller_context() -> ErrorContext:
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_name in {"__post_init__", "__init__"}:
        frame = frame.f_back
    return ErrorContext(
        module=frame.f_globals.get("__name__", "?"),
        line=frame.f_lineno,
        function=frame.f_code.co_qualname,
    )


def _rebuild(kind: type[PlumblineError], fields: dict[str, Any], context: ErrorContext) -> PlumblineError:
    error = kind(**fields)
    error.context = context
    return error


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value)
