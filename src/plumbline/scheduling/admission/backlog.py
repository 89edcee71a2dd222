"""One stream as it is now: promised jobs that wait, who holds it, and tasks whose jobs will come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from plumbline.scheduling.admission.counterexample import MAX_RELEASES, confirm
from plumbline.scheduling.admission.orders import Order
from plumbline.scheduling.admission.tasks import PeriodicTask
from plumbline.scheduling.simulation import Release, Timeline

__all__ = ["Backlog", "Holder", "Pending", "released_before", "released_until"]


def released_before(wait_ns: int, period_ns: int, end_ns: int) -> int:
    """Most releases in [0, end_ns) of a task that may come first at `wait_ns`.

    >>> [released_before(2, 5, end) for end in (2, 3, 7, 8)]
    [0, 1, 1, 2]
    """
    return max(0, -((wait_ns - end_ns) // period_ns))


def released_until(wait_ns: int, period_ns: int, end_ns: int) -> int:
    """Most releases in [0, end_ns] of a task that may come first at `wait_ns`.

    >>> [released_until(2, 5, end) for end in (1, 2, 6, 7)]
    [0, 1, 1, 2]
    """
    return max(0, (end_ns - wait_ns) // period_ns + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A promised job that is alive.

    Attributes:
        subject: its id.
        task: its task, or None for a one-shot.
        deadline_ns: absolute.
        rank: place in a fixed order, lower first.
        arrival: number in order of arrival.
        segments_ns: bounds of the segments that are not over, the running one among them.
        indivisible: keeps the stream from its first segment to its last.
        begun: its first segment has begun.
        covered: what its segments block is covered by the test of the task set, its task being one of them.
    """

    subject: str
    task: str | None
    deadline_ns: int
    rank: int
    arrival: int
    segments_ns: tuple[int, ...]
    indivisible: bool = False
    begun: bool = False
    covered: bool = False

    @property
    def pieces_ns(self) -> tuple[int, ...]:
        """What runs without interruption, in order."""
        return (sum(self.segments_ns),) if self.indivisible and self.segments_ns else self.segments_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds the stream: for `rest_ns` more at most nobody else can have it.

    Attributes:
        subject: id of the job, promised or not.
        rest_ns: bound of what is left before the next decision.
        segments: of the job that this rest comprises.
    """

    subject: str
    rest_ns: int
    segments: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """State of a stream, and what may come.

    Attributes:
        order: who goes first.
        now_ns: absolute.
        pending: promised jobs in order of arrival.
        tasks: whose jobs may come.
        earliest_ns: earliest next release of each task, absolute.
        holder: who holds the stream; None where it is free to decide.
        stream: index.
        best_effort_segment_ns: bound of the longest segment of unpromised work.
    """

    order: Order
    now_ns: int
    pending: tuple[Pending, ...]
    tasks: tuple[PeriodicTask, ...]
    earliest_ns: Mapping[str, int]
    holder: Holder | None = None
    stream: int = 0
    best_effort_segment_ns: int = 0

    def wait_ns(self, task: PeriodicTask) -> int:
        """Shortest time until the next release of a task."""
        return max(0, self.earliest_ns[task.name] - self.now_ns)

    def rest_ns(self, job: Pending) -> int:
        """Bound of what is left of a job."""
        holder = self.holder
        if holder is None or holder.subject != job.subject:
            return sum(job.segments_ns)
        return holder.rest_ns + sum(job.segments_ns[holder.segments :])

    def last_ns(self, job: Pending) -> int:
        """Bound of the last piece, that nothing can interrupt."""
        holder = self.holder
        if holder is not None and holder.subject == job.subject and holder.segments >= len(job.segments_ns):
            return holder.rest_ns
        return job.pieces_ns[-1] if job.pieces_ns else 0

    def is_held_by(self, job: Pending) -> bool:
        """Whether this job holds the stream."""
        return self.holder is not None and self.holder.subject == job.subject

    @property
    def work_ns(self) -> int:
        """Bound of all that is pending, and of who holds the stream."""
        return self.held_ns + sum(self.more_ns(job) for job in self.pending)

    @property
    def held_ns(self) -> int:
        """How long nobody else can have the stream."""
        return 0 if self.holder is None else self.holder.rest_ns

    def more_ns(self, job: Pending) -> int:
        """Bound of what is left of a job, without what is left of holding the stream now."""
        return self.rest_ns(job) - (self.held_ns if self.is_held_by(job) else 0)

    def without(self, subject: str) -> Backlog:
        """The same without a job or task."""
        return replace(
            self,
            pending=tuple(job for job in self.pending if job.subject != subject),
            tasks=tuple(task for task in self.tasks if task.name != subject),
        )

    def busy_ns(self, steps: int) -> int | None:
        """How long the stream can stay busy from now on; None if that takes too many steps to say."""
        work = self.work_ns
        length = work
        for _ in range(steps):
            grown = work + sum(
                released_before(self.wait_ns(task), task.period_ns, length) * task.cost_ns
                for task in self.tasks
            )
            if grown == length:
                return length
            length = grown
        return None

    def show(self, coming: Sequence[Release]) -> Timeline | None:
        """The timeline up to the first miss, at cost bounds, when `coming` arrive; None if nothing misses."""
        if len(coming) + len(self.pending) > MAX_RELEASES:
            return None
        waiting = [
            self._release(job, job.pieces_ns)
            for job in self.pending
            if job.segments_ns and not self.is_held_by(job)
        ]
        return confirm([*waiting, *coming], self.order, stream=self.stream, running=self._running())

    def _running(self) -> Release | None:
        if self.holder is None:
            return None
        for job in self.pending:
            if self.is_held_by(job):
                return self._release(job, (self.held_ns, *job.segments_ns[self.holder.segments :]))
        return Release(
            task=self.holder.subject,
            job=0,
            released_ns=self.now_ns,
            deadline_ns=None,
            segments_ns=(self.held_ns,),
            promised=False,
        )

    def _release(self, job: Pending, segments_ns: tuple[int, ...]) -> Release:
        return Release(
            task=job.subject,
            job=0,
            released_ns=self.now_ns,
            deadline_ns=job.deadline_ns,
            segments_ns=segments_ns,
            rank=job.rank,
        )
