"""Earliest deadline first from a known state: demand up to each deadline, and blocking by one-shots.

An interval that begins now holds what is pending and the earliest legal releases; the stream may be held by
work that is due later. An interval that begins later holds releases of tasks only, so the test of the task
set covers it, except for a segment of a one-shot that blocks it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from plumbline.scheduling.admission.backlog import Backlog, Pending, released_before, released_until
from plumbline.scheduling.admission.counterexample import MAX_RELEASES, periodic
from plumbline.scheduling.admission.demand import MAX_STEPS, AnalysisTooLong, Violation, find_violation
from plumbline.scheduling.admission.finding import Finding
from plumbline.scheduling.admission.orders import Order
from plumbline.scheduling.admission.verdict import Reason
from plumbline.scheduling.simulation import Release, Timeline

__all__ = ["DemandCheck"]


class DemandCheck:
    """Checks of one backlog under EDF."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog

    def find_late(self, subject: str) -> Finding | None:
        """A deadline, no earlier than the first of `subject`, before which too much has to be done.

        Raises:
            AnalysisTooLong: it would take too many steps.
        """
        backlog = self._backlog
        busy = backlog.busy_ns(MAX_STEPS)
        if busy is None:
            raise AnalysisTooLong(tasks=len(backlog.tasks), steps=MAX_STEPS)
        first = self._first_due_ns(subject)
        asked = backlog.held_ns
        for step, (due, work, name) in enumerate(self._deadlines()):
            if step > MAX_STEPS:
                raise AnalysisTooLong(tasks=len(backlog.tasks), steps=MAX_STEPS)
            if due > busy:
                return None
            asked += work
            if asked > due >= first:
                return self._late(due, asked, name)
        return None

    def find_blocked(self, job: Pending) -> Finding | None:
        """A later release that a segment of a one-shot could block for too long; sufficient only.

        Raises:
            AnalysisTooLong: it would take too many steps.
        """
        backlog = self._backlog
        allowed = max(0, backlog.best_effort_segment_ns - 1)
        blocking = max(job.pieces_ns, default=0) - 1
        span = job.deadline_ns - backlog.now_ns
        if blocking <= allowed or job.covered:
            return None
        violation = find_violation(backlog.tasks, blocking_ns=blocking, below_ns=max(span, 0))
        if violation is None:
            return None
        timeline = self._show_blocked(job, violation)
        return Finding(
            victim=timeline.misses[0].task if timeline else min(
                backlog.tasks, key=lambda task: task.deadline_ns).name,
            kind=Reason.BLOCKING,
            reason=f"releases within {violation.interval_ns} ns can ask for {violation.demand_ns} ns, "
                   f"behind {violation.blocking_ns} ns of a segment that began before",
            bound_ns=violation.demand_ns + violation.blocking_ns,
            limit_ns=violation.interval_ns,
            exact=False,
            counterexample=timeline,
        )  # fmt: skip

    def end_ns(self, job: Pending) -> int:
        """When a job is done at the latest, from now."""
        backlog = self._backlog
        span = job.deadline_ns - backlog.now_ns
        work = backlog.held_ns
        work += sum(
            backlog.more_ns(other) for other in backlog.pending if other.deadline_ns <= job.deadline_ns
        )
        length = work
        for _ in range(MAX_STEPS):
            grown = work
            for task in backlog.tasks:
                wait = backlog.wait_ns(task)
                come = released_before(wait, task.period_ns, length)
                grown += (
                    min(come, released_until(wait, task.period_ns, span - task.deadline_ns)) * task.cost_ns
                )
            if grown == length:
                break
            length = grown
        return min(length, span)

    def _first_due_ns(self, subject: str) -> int:
        backlog = self._backlog
        for job in backlog.pending:
            if job.subject == subject:
                return job.deadline_ns - backlog.now_ns
        return min(
            (backlog.wait_ns(task) + task.deadline_ns for task in backlog.tasks if task.name == subject),
            default=0,
        )

    def _deadlines(self) -> Iterator[tuple[int, int, str]]:
        """Each deadline from now, the work that is due then, and whose it is; in order."""
        backlog = self._backlog
        known = [
            (job.deadline_ns - backlog.now_ns, backlog.more_ns(job), job.subject) for job in backlog.pending
        ]
        coming = [
            (backlog.wait_ns(task) + task.deadline_ns, task.cost_ns, task.name, task.period_ns)
            for task in backlog.tasks
        ]
        heapq.heapify(coming)
        known.sort()
        place = 0
        while place < len(known) or coming:
            if not coming or (place < len(known) and known[place][0] <= coming[0][0]):
                yield known[place]
                place += 1
            else:
                due, work, name, period = coming[0]
                heapq.heapreplace(coming, (due + period, work, name, period))
                yield due, work, name

    def _late(self, due_ns: int, asked_ns: int, victim: str) -> Finding:
        backlog = self._backlog
        timeline = backlog.show(self._due_until(due_ns))
        return Finding(
            victim=timeline.misses[0].task if timeline else victim,
            kind=Reason.DEMAND,
            reason=f"{asked_ns} ns must be done within the next {due_ns} ns",
            bound_ns=asked_ns,
            limit_ns=due_ns,
            exact=True,
            counterexample=timeline,
        )

    def _due_until(self, due_ns: int) -> list[Release]:
        backlog = self._backlog
        coming: list[Release] = []
        for task in backlog.tasks:
            wait = backlog.wait_ns(task)
            count = released_until(wait, task.period_ns, due_ns - task.deadline_ns)
            first = backlog.now_ns + wait
            coming += periodic(task, Order.EDF, first_ns=first, count=min(count, MAX_RELEASES))
        return coming

    def _show_blocked(self, job: Pending, violation: Violation) -> Timeline | None:
        """The blocked schedule, where the job can begin now and the tasks can come in time."""
        backlog = self._backlog
        if backlog.holder is not None or len(backlog.pending) != 1:
            return None
        pieces = job.pieces_ns
        lead = sum(pieces[: pieces.index(max(pieces))]) + 1
        coming: list[Release] = []
        for task in backlog.tasks:
            count = released_until(task.deadline_ns, task.period_ns, violation.interval_ns)
            if count and backlog.wait_ns(task) > lead:
                return None
            first = backlog.now_ns + lead
            coming += periodic(task, Order.EDF, first_ns=first, count=min(count, MAX_RELEASES))
        return backlog.show(coming)
