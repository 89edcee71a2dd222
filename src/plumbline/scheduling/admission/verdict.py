"""What admission answers: `Accepted`, a promise, or `Refused`, with the bound, the reason and the proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from plumbline.errors import Recoverability, ResourceError
from plumbline.scheduling.simulation import Timeline

__all__ = [
    "Accepted",
    "AdmissionInfeasible",
    "AdmissionRefused",
    "Reason",
    "Refused",
    "Verdict",
]

SCHEMA_VERSION = 1


class Reason(StrEnum):
    """Why nothing is promised."""

    UTILISATION = "utilisation"
    """The tasks together ask for more than all the time there is."""
    DEMAND = "demand"
    """Work that must be done within an interval, and what blocks it, is longer than the interval."""
    RESPONSE = "response"
    """A job could end after its deadline."""
    BLOCKING = "blocking"
    """A segment of the new job could hold up a job that was promised before."""
    TOO_EARLY = "too_early"
    """A release came before the smallest time between releases was over."""
    OVERRUN = "overrun"
    """The segment that runs now is past its bound, so nothing can be said about its end."""
    LIMIT = "limit"
    """More promises than one stream may hold."""
    UNDECIDED = "undecided"
    """The analysis would take more steps than it may."""
    OFFSETS = "offsets"
    """Releases at the given offsets miss a deadline."""


@dataclass(eq=False, kw_only=True)
class AdmissionRefused(ResourceError):
    """No promise now: with what is promised already the deadline could be missed. Nothing was computed.

    `refusal` is the document of `Refused.document`.
    """

    code = "resource.admission_refused"
    recoverability = Recoverability.TRANSIENT
    owner = "scheduling"
    template = "no promise for {subject!r}: {reason}"

    subject: str
    reason: str
    retry_after_s: float
    refusal: dict[str, Any]


@dataclass(eq=False, kw_only=True)
class AdmissionInfeasible(ResourceError):
    """No promise, and waiting does not help: the deadline cannot be kept alone, or the task set is too much.

    `refusal` is the document of `Refused.document`.
    """

    code = "resource.admission_infeasible"
    owner = "scheduling"
    http_status = 422
    template = "no promise for {subject!r}: {reason}"

    subject: str
    reason: str
    refusal: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A promise.

    Attributes:
        subject: id of the job, or name of the task.
        bound_ns: for a job: latest end, absolute, at most its deadline. For a task: longest time from a
            release to its end, at most its relative deadline.
        exact: the test was necessary and sufficient.
        bounds_ns: for a task set: the same for each task, by name.
    """

    subject: str
    bound_ns: int
    exact: bool = True
    bounds_ns: Mapping[str, int] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """True."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """No promise.

    Attributes:
        subject: id of the job, or name of the task, that asked.
        victim: whose deadline could be missed.
        kind: why, for programs.
        reason: why, in plain words with the numbers.
        bound_ns: what the test found: demand and blocking of an interval, or a response time.
        limit_ns: what it must not exceed: length of the interval, or relative deadline.
        exact: the test was necessary and sufficient: `counterexample` is a real schedule that misses.
        permanent: waiting does not help.
        retry_after_ns: when a new attempt may be accepted; 0 where `permanent`.
        counterexample: releases and the schedule that misses a deadline, confirmed by simulation; None only
            where the test is not exact, or the schedule is longer than a timeline may be.
    """

    subject: str
    victim: str
    kind: Reason
    reason: str
    bound_ns: int
    limit_ns: int
    exact: bool
    permanent: bool
    retry_after_ns: int = 0
    counterexample: Timeline | None = None

    @property
    def accepted(self) -> bool:
        """False."""
        return False

    def document(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "subject": self.subject,
            "victim": self.victim,
            "kind": self.kind.value,
            "reason": self.reason,
            "bound_ns": self.bound_ns,
            "limit_ns": self.limit_ns,
            "exact": self.exact,
            "permanent": self.permanent,
            "retry_after_ns": self.retry_after_ns,
            "counterexample": None if self.counterexample is None else self.counterexample.document(),
        }

    def error(self) -> AdmissionRefused | AdmissionInfeasible:
        """The typed error to raise: transient where the load will drop, permanent where it will not help."""
        document = self.document()
        if self.permanent:
            return AdmissionInfeasible(subject=self.subject, reason=self.reason, refusal=document)
        after_s = max(self.retry_after_ns, 1_000_000) / 1e9
        return AdmissionRefused(
            subject=self.subject, reason=self.reason, retry_after_s=after_s, refusal=document
        )


Verdict = Accepted | Refused
