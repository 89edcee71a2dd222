"""`PeriodicTask` and `OneShot`: work that asks for a promise. Plain values, integer nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plumbline.contracts.requests import DEFAULT_PRIORITY
from plumbline.errors import ValidationError

__all__ = ["MAX_SEGMENTS", "MAX_TIME_NS", "OneShot", "PeriodicTask", "PromiseTermsRefused"]

MAX_SEGMENTS = 4096
"""Most segments of one job."""

MAX_TIME_NS = 2**62
"""Longest duration and latest time that the analysis takes, about 146 years."""


@dataclass(eq=False, kw_only=True)
class PromiseTermsRefused(ValidationError):
    """Work that asks for a promise states an impossible cost, period, deadline or name."""

    code = "validation.promise_terms"
    owner = "scheduling"
    template = "promise for {subject!r}: {field} {reason}"

    subject: str
    field: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodicTask:
    """Jobs that come again and again on one stream, at least `period_ns` apart (sporadic releases).

    Attributes:
        name: unique on its stream.
        graph: executable that each job runs, `model@version`.
        period_ns: smallest time between two releases.
        deadline_ns: from release to the latest end; may be below, equal to or above the period.
        segments_ns: cost bound of each segment in order; the stream can be given away only between segments.
        priority: 0..9, higher is more urgent; read by the priority order only.
        offset_ns: of the first release where releases are strictly periodic and the offset is known; None
            for sporadic releases.
        indivisible: the job keeps its stream from its first segment to its last, because its version has one
            instance that another job could be waiting for. The test then takes it as one segment.

    Raises:
        PromiseTermsRefused: naming the field.
    """

    name: str
    graph: str
    period_ns: int
    deadline_ns: int
    segments_ns: tuple[int, ...]
    priority: int = DEFAULT_PRIORITY
    offset_ns: int | None = None
    indivisible: bool = False

    def __post_init__(self) -> None:
        _verify_name(self.name)
        _verify_time(self.name, "period_ns", self.period_ns, 1)
        _verify_time(self.name, "deadline_ns", self.deadline_ns, 1)
        _verify_segments(self.name, self.segments_ns)
        if self.offset_ns is not None:
            _verify_time(self.name, "offset_ns", self.offset_ns, 0)

    @property
    def cost_ns(self) -> int:
        """Cost bound of one job."""
        return sum(self.segments_ns)

    @property
    def pieces_ns(self) -> tuple[int, ...]:
        """What runs without interruption, in order: the segments, or the whole job if it is indivisible."""
        return (self.cost_ns,) if self.indivisible else self.segments_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class OneShot:
    """One job with a deadline that asks for a promise.

    Attributes:
        id: unique among the promised jobs that are alive.
        graph: executable, `model@version`.
        segments_ns: cost bound of each segment that is still to run, in order.
        arrived_ns: when it arrived, absolute.
        deadline_ns: when it must be done, absolute.
        priority: 0..9, higher is more urgent; read by the priority order only.
        period_ns: read by the rate-monotonic order only; None goes after everything that has a period.
        indivisible: as for `PeriodicTask`.

    Raises:
        PromiseTermsRefused: naming the field.
    """

    id: str
    graph: str
    segments_ns: tuple[int, ...]
    arrived_ns: int
    deadline_ns: int
    priority: int = DEFAULT_PRIORITY
    period_ns: int | None = None
    indivisible: bool = False

    def __post_init__(self) -> None:
        _verify_name(self.id)
        _verify_segments(self.id, self.segments_ns)
        _verify_time(self.id, "arrived_ns", self.arrived_ns, 0)
        _verify_time(self.id, "deadline_ns", self.deadline_ns, 0)
        if self.period_ns is not None:
            _verify_time(self.id, "period_ns", self.period_ns, 1)

    @property
    def cost_ns(self) -> int:
        """Cost bound of what is still to run."""
        return sum(self.segments_ns)

    @property
    def pieces_ns(self) -> tuple[int, ...]:
        """What runs without interruption, in order: the segments, or the whole job if it is indivisible."""
        return (self.cost_ns,) if self.indivisible else self.segments_ns


def _verify_name(name: Any) -> None:
    if not isinstance(name, str) or not name or len(name) > 256:
        subject = repr(name)[:40]
        raise PromiseTermsRefused(subject=subject, field="name", reason="must be 1 to 256 characters")


def _verify_time(subject: str, field: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_TIME_NS:
        reason = f"must be whole nanoseconds from {least} to 2**62"
        raise PromiseTermsRefused(subject=subject, field=field, reason=reason)


def _verify_segments(subject: str, segments: Any) -> None:
    if not isinstance(segments, tuple) or not 1 <= len(segments) <= MAX_SEGMENTS:
        reason = f"must be a tuple of 1 to {MAX_SEGMENTS} cost bounds"
        raise PromiseTermsRefused(subject=subject, field="segments_ns", reason=reason)
    for value in segments:
        _verify_time(subject, "segments_ns", value, 1)
