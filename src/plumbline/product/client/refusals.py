"""What a client of a server can meet: no server, no answer, a strange answer, or a typed refusal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plumbline.errors import (
    BackendError,
    ErrorClass,
    ExecutionError,
    Recoverability,
    ResourceError,
    SideEffect,
    ValidationError,
)

__all__ = [
    "AnswerLost",
    "AnswerUnreadable",
    "ServerAddressRefused",
    "ServerRefusal",
    "ServerUnreachable",
    "refusal_of",
]


@dataclass(eq=False, kw_only=True)
class ServerAddressRefused(ValidationError):
    """The address of a server is not one."""

    code = "validation.server_address"
    owner = "product"
    template = "{address!r} is no address of a server: {reason}"

    address: str
    reason: str


@dataclass(eq=False, kw_only=True)
class ServerUnreachable(ResourceError):
    """No connection to the server; nothing was sent."""

    code = "resource.server_unreachable"
    owner = "product"
    recoverability = Recoverability.TRANSIENT
    template = "no server answers at {address}: {reason}"

    address: str
    reason: str
    retry_after_s: float = 1.0


@dataclass(eq=False, kw_only=True)
class AnswerLost(ExecutionError):
    """The request was sent and no whole answer came back: nobody here knows whether it was done."""

    code = "execution.answer_lost"
    owner = "product"
    side_effect = SideEffect.UNKNOWN
    template = "no whole answer to {operation}: {reason}"

    operation: str
    reason: str


@dataclass(eq=False, kw_only=True)
class AnswerUnreadable(BackendError):
    """An answer that no Plumbline server gives; perhaps something else listens there."""

    code = "backend.server_answer"
    owner = "product"
    template = "the answer to {operation} (status {status}) cannot be read: {reason}"

    operation: str
    status: int
    reason: str


@dataclass(eq=False, kw_only=True)
class ServerRefusal(ExecutionError):
    """The server answered with a problem. An instance has the code, class, recoverability and status of that
    problem, so that it is treated as the same error in this process would be.
    """

    code = "execution.server_refusal"
    owner = "product"
    template = "{detail}{hint}"

    detail: str
    status: int
    problem_code: str = ""
    problem_class: str = ""
    problem_recoverability: str = ""
    request_id: str = ""
    retry_after_s: float | None = None

    def __post_init__(self) -> None:
        taken: dict[str, Any] = {"http_status": self.status}
        if self.problem_code:
            taken["code"] = self.problem_code
        if self.problem_class in set(ErrorClass):
            taken["error_class"] = ErrorClass(self.problem_class)
        if self.problem_recoverability in set(Recoverability):
            taken["recoverability"] = Recoverability(self.problem_recoverability)
        vars(self).update(taken)
        ExecutionError.__post_init__(self)

    @property
    def message(self) -> str:
        """What the server said, and when to come again."""
        hint = "" if self.retry_after_s is None else f" (try again in {self.retry_after_s:g} s)"
        return self.template.format(detail=self.detail, hint=hint)


def refusal_of(problem: Mapping[str, Any], status: int) -> ServerRefusal:
    """The error of a problem document. Members of other types than they should have count as absent."""
    retry = problem.get("retry_after")
    is_number = isinstance(retry, int | float) and not isinstance(retry, bool)

    def text(name: str) -> str:
        value = problem.get(name)
        return value[:4000] if isinstance(value, str) else ""

    return ServerRefusal(
        detail=text("detail") or f"refused with status {status}",
        status=status,
        problem_code=text("code"),
        problem_class=text("class"),
        problem_recoverability=text("recoverability"),
        request_id=text("request_id"),
        retry_after_s=float(retry) if is_number and retry is not None else None,
    )
