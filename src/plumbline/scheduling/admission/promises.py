"""`StreamPromises`: what was promised on one stream, and whether one more job or task fits."""

from __future__ import annotations

from dataclasses import dataclass, replace

from plumbline.errors import ValidationError
from plumbline.scheduling.admission.backlog import Backlog, Holder, Pending
from plumbline.scheduling.admission.online import decide_backlog
from plumbline.scheduling.admission.orders import Order, order_of, rank_of
from plumbline.scheduling.admission.sets import decide_task_set
from plumbline.scheduling.admission.tasks import OneShot, PeriodicTask
from plumbline.scheduling.admission.verdict import Accepted, Reason, Refused, Verdict

__all__ = ["Breach", "PromiseUnknown", "StreamPromises"]

MAX_PROMISES = 10_000
"""Most promised jobs that are alive on one stream."""

MAX_TASKS = 256
"""Most periodic tasks of one stream."""


@dataclass(eq=False, kw_only=True)
class PromiseUnknown(ValidationError):
    """A task or job that nothing was promised to, or a name that is promised already."""

    code = "validation.promise"
    owner = "scheduling"
    template = "{subject!r} on stream {stream}: {reason}"

    subject: str
    stream: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A promise that was not kept.

    Attributes:
        subject: id of the job.
        task: its task, or None for a one-shot.
        deadline_ns: what was promised, absolute.
        finished_ns: when it ended, absolute.
        causes: the conditions of the promise that did not hold, in plain words; where empty, no segment was
            seen to exceed its bound, and the order of the stream is to blame.
    """

    subject: str
    task: str | None
    deadline_ns: int
    finished_ns: int
    causes: tuple[str, ...]


@dataclass(slots=True)
class _Running:
    subject: str
    began_ns: int
    bound_ns: int


class StreamPromises:
    """Promises of one stream. Owned by the loop that decides for the stream; not thread-safe.

    The promises hold while these hold (docs/explanation/admission.md):

    * no segment takes longer than its bound;
    * at each decision the stream runs the first promised job in `order`, and unpromised work only when no
      promised job waits;
    * no segment of unpromised work is longer than `best_effort_segment_ns`;
    * `started`, `segment_done`, `finished`, `release` and `consider` are told everything, in order, with the
      times that the decisions saw; what arrives after a start counts from the next nanosecond.

    Args:
        policy: name of the scheduling policy, or the order itself.
        best_effort_segment_ns: bound of the longest segment of unpromised work; 0 if there is none.
        stream: index, for timelines and errors.

    Raises:
        PolicyWithoutGuarantee: the policy has no exact test.
    """

    def __init__(self, policy: str, *, best_effort_segment_ns: int = 0, stream: int = 0) -> None:
        self.order: Order = order_of(policy)
        self.stream = stream
        self.best_effort_segment_ns = best_effort_segment_ns
        self._tasks: dict[str, PeriodicTask] = {}
        self._earliest_ns: dict[str, int] = {}
        self._pending: dict[str, Pending] = {}
        self._running: _Running | None = None
        self._arrivals = 0
        self._overruns: list[str] = []

    # -- facts -------------------------------------------------------------------------------------------

    @property
    def tasks(self) -> tuple[PeriodicTask, ...]:
        """Admitted periodic tasks, in the order of their admission."""
        return tuple(self._tasks.values())

    @property
    def promised(self) -> tuple[str, ...]:
        """Ids of promised jobs that are alive, in order of arrival."""
        return tuple(self._pending)

    def earliest_release_ns(self, task: str) -> int:
        """From when on the next job of a task may come.

        Raises:
            PromiseUnknown: there is no such task.
        """
        if task not in self._earliest_ns:
            raise self._unknown(task, "no such task")
        return self._earliest_ns[task]

    # -- asking ------------------------------------------------------------------------------------------

    def register_task(self, task: PeriodicTask, now_ns: int) -> Verdict:
        """Promise that every job of `task` ends by its deadline, if that breaks no earlier promise.

        Raises:
            PromiseUnknown: a task of this name is registered.
        """
        if task.name in self._tasks:
            raise self._unknown(task.name, "a task of this name is registered; remove it first")
        if len(self._tasks) >= MAX_TASKS:
            return self._limit(task.name, MAX_TASKS)
        tasks = (*self.tasks, task)
        verdict = decide_task_set(
            tasks,
            self.order,
            best_effort_segment_ns=self.best_effort_segment_ns,
            stream=self.stream,
            subject=task.name,
        )
        if isinstance(verdict, Refused):
            return verdict
        earliest = {**self._earliest_ns, task.name: now_ns}
        decided = self._decide(task.name, tuple(self._pending.values()), tasks, earliest, now_ns)
        if isinstance(decided, Refused):
            return decided
        self._tasks[task.name], self._earliest_ns[task.name] = task, now_ns
        return Accepted(
            subject=task.name,
            bound_ns=verdict.bounds_ns[task.name],
            exact=verdict.exact and decided.exact,
            bounds_ns=verdict.bounds_ns,
        )

    def remove_task(self, name: str) -> None:
        """Promise nothing to later jobs of a task. Jobs that were released keep their promise.

        Raises:
            PromiseUnknown: there is no such task.
        """
        if name not in self._tasks:
            raise self._unknown(name, "no such task")
        del self._tasks[name], self._earliest_ns[name]
        for job in self._pending.values():
            if job.task == name:
                self._pending[job.subject] = replace(job, covered=False)

    def consider(self, job: OneShot, now_ns: int) -> Verdict:
        """Promise a job, if neither its deadline nor any earlier promise can be missed.

        An acceptance enters the job at once; give it back with `finished` if it cannot be queued after all.

        Raises:
            PromiseUnknown: a promised job of this id is alive.
        """
        if job.id in self._pending:
            raise self._unknown(job.id, "a promised job of this id is alive")
        if len(self._pending) >= MAX_PROMISES:
            return self._limit(job.id, MAX_PROMISES)
        pending = Pending(
            subject=job.id,
            task=None,
            deadline_ns=job.deadline_ns,
            rank=rank_of(job, self.order),
            arrival=self._arrivals,
            segments_ns=job.segments_ns,
            indivisible=job.indivisible,
        )
        verdict = self._decide(
            job.id, (*self._pending.values(), pending), self.tasks, self._earliest_ns, now_ns
        )
        if isinstance(verdict, Accepted):
            self._enter(pending)
        return verdict

    def release(self, task: str, job_id: str, now_ns: int) -> Verdict:
        """A job of an admitted task arrives. It is promised, unless it comes too early after the one before.

        Raises:
            PromiseUnknown: there is no such task, or a promised job of this id is alive.
        """
        found = self._tasks.get(task)
        if found is None:
            raise self._unknown(task, "no such task")
        if job_id in self._pending:
            raise self._unknown(job_id, "a promised job of this id is alive")
        now_ns = max(now_ns, self._soonest_ns(now_ns))
        earliest = self._earliest_ns[task]
        if now_ns < earliest:
            return self._too_early(found, job_id, earliest, now_ns)
        if len(self._pending) >= MAX_PROMISES:
            return self._limit(job_id, MAX_PROMISES)
        self._earliest_ns[task] = now_ns + found.period_ns
        deadline = now_ns + found.deadline_ns
        self._enter(
            Pending(
                subject=job_id,
                task=task,
                deadline_ns=deadline,
                rank=rank_of(found, self.order),
                arrival=self._arrivals,
                segments_ns=found.segments_ns,
                indivisible=found.indivisible,
                covered=True,
            )
        )
        return Accepted(subject=job_id, bound_ns=deadline)

    # -- being told --------------------------------------------------------------------------------------

    def started(self, job_id: str, now_ns: int, *, bound_ns: int | None = None) -> None:
        """The stream began a segment, of promised work or not.

        Args:
            job_id: whose; an id that is not promised is best-effort work.
            now_ns: when.
            bound_ns: of the segment, where it is not what was promised (a batch); None: the job's own bound,
                or `best_effort_segment_ns`.
        """
        pending = self._pending.get(job_id)
        if pending is not None and pending.segments_ns:
            allowed = pending.segments_ns[0]
            self._pending[job_id] = replace(pending, begun=True)
        else:
            allowed = self.best_effort_segment_ns
        bound = allowed if bound_ns is None else bound_ns
        if bound > allowed:
            self._overran(f"a segment of {job_id} may take {bound} ns, promised were {allowed}")
        self._running = _Running(job_id, now_ns, bound)

    def segment_done(self, job_id: str, now_ns: int) -> None:
        """The segment that runs is over."""
        running, self._running = self._running, None
        if running is None or running.subject != job_id:
            return
        took = now_ns - running.began_ns
        if took > running.bound_ns:
            self._overran(f"a segment of {job_id} took {took} ns, its bound is {running.bound_ns}")
        pending = self._pending.get(job_id)
        if pending is not None and pending.segments_ns:
            self._pending[job_id] = replace(pending, segments_ns=pending.segments_ns[1:])

    def finished(self, job_id: str, now_ns: int, *, completed: bool = True) -> Breach | None:
        """A job is over; unpromised jobs are ignored.

        Args:
            job_id: whose.
            now_ns: when.
            completed: False where it was withdrawn, cancelled or failed: then no promise was broken.

        Returns:
            The breach, if a promised deadline is over.
        """
        if self._running is not None and self._running.subject == job_id:
            self.segment_done(job_id, now_ns)
        pending = self._pending.pop(job_id, None)
        causes = tuple(self._overruns)
        if not self._pending:
            self._overruns = []
        if pending is None or not completed or now_ns <= pending.deadline_ns:
            return None
        return Breach(
            subject=job_id,
            task=pending.task,
            deadline_ns=pending.deadline_ns,
            finished_ns=now_ns,
            causes=causes,
        )

    # -- inside ------------------------------------------------------------------------------------------

    def _decide(
        self,
        subject: str,
        pending: tuple[Pending, ...],
        tasks: tuple[PeriodicTask, ...],
        earliest_ns: dict[str, int],
        now_ns: int,
    ) -> Verdict:
        running = self._running
        if running is not None and now_ns - running.began_ns > running.bound_ns:
            return self._past_bound(subject, running, now_ns)
        backlog = Backlog(
            order=self.order,
            now_ns=now_ns,
            pending=pending,
            tasks=tasks,
            earliest_ns={name: max(at, self._soonest_ns(now_ns)) for name, at in earliest_ns.items()},
            holder=self._holder(pending, now_ns),
            stream=self.stream,
            best_effort_segment_ns=self.best_effort_segment_ns,
        )
        return decide_backlog(backlog, subject)

    def _soonest_ns(self, now_ns: int) -> int:
        """When a new release counts from at the earliest: after the start of the running segment."""
        return now_ns if self._running is None else max(now_ns, self._running.began_ns + 1)

    def _holder(self, pending: tuple[Pending, ...], now_ns: int) -> Holder | None:
        """Who keeps the stream at `now_ns`, and for how long at most."""
        running = self._running
        rest = 0 if running is None else running.began_ns + running.bound_ns - now_ns
        for job in pending:
            if job.indivisible and job.begun:
                begun = running is not None and running.subject == job.subject
                later = sum(job.segments_ns[1:] if begun else job.segments_ns)
                return Holder(subject=job.subject, rest_ns=rest + later, segments=len(job.segments_ns))
        if running is None:
            return None
        return Holder(subject=running.subject, rest_ns=rest, segments=1)

    def _enter(self, pending: Pending) -> None:
        self._pending[pending.subject] = pending
        self._arrivals += 1

    def _overran(self, text: str) -> None:
        self._overruns = [*self._overruns[-15:], text]

    def _unknown(self, subject: str, reason: str) -> PromiseUnknown:
        return PromiseUnknown(subject=subject, stream=self.stream, reason=reason)

    def _limit(self, subject: str, limit: int) -> Refused:
        return Refused(
            subject=subject, victim=subject, kind=Reason.LIMIT, exact=False, permanent=False,
            reason=f"stream {self.stream} holds {limit} promises of this kind, its limit",
            bound_ns=limit + 1, limit_ns=limit, retry_after_ns=1_000_000,
        )  # fmt: skip

    def _too_early(self, task: PeriodicTask, job_id: str, earliest_ns: int, now_ns: int) -> Refused:
        wait = earliest_ns - now_ns
        return Refused(
            subject=job_id, victim=task.name, kind=Reason.TOO_EARLY, exact=False, permanent=False,
            reason=f"task {task.name} promised {task.period_ns} ns between releases; the next may come "
                   f"in {wait} ns",
            bound_ns=task.period_ns - wait, limit_ns=task.period_ns, retry_after_ns=wait,
        )  # fmt: skip

    def _past_bound(self, subject: str, running: _Running, now_ns: int) -> Refused:
        took = now_ns - running.began_ns
        return Refused(
            subject=subject, victim=subject, kind=Reason.OVERRUN, exact=False, permanent=False,
            reason=f"the running segment of {running.subject} has taken {took} ns, its bound is "
                   f"{running.bound_ns}; its end is unknown",
            bound_ns=took, limit_ns=running.bound_ns, retry_after_ns=max(running.bound_ns, 1_000_000),
        )  # fmt: skip
