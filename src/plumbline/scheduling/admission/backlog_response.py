"""Fixed order from a known state: when each pending job and each job to come ends at the latest.

A pending job waits for whoever holds the stream, for pending jobs before it, and for more urgent releases up
to the begin of its last segment. A job to come is also behind everything pending of its level; it is tried
at every release of an equal within the active period that runs now.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import accumulate

from plumbline.scheduling.admission.backlog import Backlog, Pending, released_before, released_until
from plumbline.scheduling.admission.counterexample import MAX_RELEASES, periodic
from plumbline.scheduling.admission.demand import MAX_STEPS, AnalysisTooLong
from plumbline.scheduling.admission.finding import Finding
from plumbline.scheduling.admission.orders import rank_of
from plumbline.scheduling.admission.response import Level, Response, level_of, worst_response
from plumbline.scheduling.admission.tasks import PeriodicTask
from plumbline.scheduling.admission.verdict import Reason
from plumbline.scheduling.simulation import Release, Timeline

__all__ = ["ResponseCheck"]


class ResponseCheck:
    """Checks of one backlog under a fixed order."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._ranks = {task.name: rank_of(task, backlog.order) for task in backlog.tasks}
        ahead = sorted(backlog.pending, key=lambda job: (job.rank, job.arrival))
        work = accumulate(backlog.more_ns(job) for job in ahead)
        self._through_ns = {job.subject: sum_ns for job, sum_ns in zip(ahead, work, strict=True)}
        """Work of each pending job and of those before it, without what holds the stream."""

    def find_late(self, subject: str) -> Finding | None:
        """A job, pending or to come, that `subject` makes late.

        Raises:
            AnalysisTooLong: it would take too many steps.
        """
        rank = self._rank(subject)
        for job in self._backlog.pending:
            if job.rank > rank or job.subject == subject:
                found = self._late_job(job, subject)
                if found is not None:
                    return found
        for task in self._backlog.tasks:
            if self._ranks[task.name] >= rank:
                found = self._late_task(task)
                if found is not None:
                    return found
        return None

    def find_blocked(self, job: Pending) -> Finding | None:
        """A later release that a segment of a one-shot could block for too long; sufficient only.

        Raises:
            AnalysisTooLong: it would take too many steps.
        """
        backlog = self._backlog
        allowed = max(0, backlog.best_effort_segment_ns - 1)
        blocking = max(job.pieces_ns, default=0) - 1
        if blocking <= allowed or job.covered:
            return None
        for task in backlog.tasks:
            if self._ranks[task.name] >= job.rank:
                continue
            level = level_of(task, backlog.tasks, backlog.order, blocking_ns=blocking)
            if level.blocker is not None:
                continue
            response = worst_response(level)
            if response.response_ns > task.deadline_ns:
                return self._blocked(job, level, response)
        return None

    def end_ns(self, job: Pending) -> int:
        """When a pending job is done at the latest, from now.

        Raises:
            AnalysisTooLong: it would take too many steps.
        """
        backlog = self._backlog
        last = backlog.last_ns(job)
        if backlog.rest_ns(job) == last and backlog.is_held_by(job):
            return last
        base = backlog.held_ns + self._through_ns[job.subject] - last
        return self._begin_ns(base, job.rank) + last

    # -- inside ------------------------------------------------------------------------------------------

    def _rank(self, subject: str) -> int:
        for job in self._backlog.pending:
            if job.subject == subject:
                return job.rank
        return self._ranks[subject]

    def _begin_ns(self, base_ns: int, rank: int, stop_ns: int | None = None) -> int:
        """When work behind `base_ns` and behind all more urgent releases up to then begins."""
        backlog = self._backlog
        urgent = [
            (backlog.wait_ns(task), task.period_ns, task.cost_ns)
            for task in backlog.tasks
            if self._ranks[task.name] < rank
        ]
        begin = base_ns
        for _ in range(MAX_STEPS):
            grown = base_ns + sum(released_until(wait, period, begin) * cost for wait, period, cost in urgent)
            if grown == begin or (stop_ns is not None and grown > stop_ns):
                return grown
            begin = grown
        raise AnalysisTooLong(tasks=len(backlog.tasks), steps=MAX_STEPS)

    def _late_job(self, job: Pending, subject: str) -> Finding | None:
        backlog = self._backlog
        limit = job.deadline_ns - backlog.now_ns
        end = self.end_ns(job)
        if end <= limit:
            return None
        if job.subject != subject and ResponseCheck(backlog.without(subject)).end_ns(job) > limit:
            return None
        coming: list[Release] = []
        for task in backlog.tasks:
            if self._ranks[task.name] < job.rank:
                coming += self._releases_until(task, end)
        return Finding(
            victim=job.subject, kind=Reason.RESPONSE, bound_ns=end, limit_ns=max(limit, 0), exact=True,
            reason=f"{job.subject} could end {end} ns from now, its deadline is in {limit} ns",
            counterexample=backlog.show(coming),
        )  # fmt: skip

    def _late_task(self, task: PeriodicTask) -> Finding | None:
        """A job to come of `task` that ends too late behind what is pending."""
        backlog, rank = self._backlog, self._ranks[task.name]
        level = [other for other in backlog.tasks if self._ranks[other.name] <= rank]
        equals = [other for other in level if self._ranks[other.name] == rank]
        pending = sum(backlog.more_ns(job) for job in backlog.pending if job.rank <= rank) + backlog.held_ns
        busy = self._busy_ns(pending, level)
        wait, last = backlog.wait_ns(task), task.pieces_ns[-1]
        for step, at in enumerate(self._arrivals(equals)):
            if at >= busy:
                return None
            if step > MAX_STEPS:
                break
            if at < wait:
                continue
            base = pending - last
            for other in equals:
                come = released_until(backlog.wait_ns(other), other.period_ns, at)
                base += come * other.cost_ns
            limit = at + task.deadline_ns
            end = self._begin_ns(base, rank, stop_ns=limit) + last
            if end > limit:
                return self._late_arrival(task, at, end, equals)
        raise AnalysisTooLong(tasks=len(backlog.tasks), steps=MAX_STEPS)

    def _busy_ns(self, pending_ns: int, level: Sequence[PeriodicTask]) -> int:
        backlog = self._backlog
        length = pending_ns
        for _ in range(MAX_STEPS):
            grown = pending_ns + sum(
                released_before(backlog.wait_ns(task), task.period_ns, length) * task.cost_ns
                for task in level
            )
            if grown == length:
                return length
            length = grown
        raise AnalysisTooLong(tasks=len(backlog.tasks), steps=MAX_STEPS)

    def _arrivals(self, tasks: Sequence[PeriodicTask]) -> Iterator[int]:
        coming = [(self._backlog.wait_ns(task), task.period_ns) for task in tasks]
        heapq.heapify(coming)
        while coming:
            at, period = coming[0]
            heapq.heapreplace(coming, (at + period, period))
            yield at

    def _releases_until(self, task: PeriodicTask, end_ns: int) -> list[Release]:
        backlog = self._backlog
        wait = backlog.wait_ns(task)
        count = min(released_until(wait, task.period_ns, end_ns), MAX_RELEASES)
        return periodic(task, backlog.order, first_ns=backlog.now_ns + wait, count=count)

    def _late_arrival(
        self, task: PeriodicTask, at_ns: int, end_ns: int, equals: Sequence[PeriodicTask]
    ) -> Finding:
        backlog, rank = self._backlog, self._ranks[task.name]
        coming: list[Release] = []
        for other in backlog.tasks:
            if self._ranks[other.name] < rank:
                coming += self._releases_until(other, end_ns)
            elif other in equals and other is not task:
                coming += self._releases_until(other, at_ns)
        own = released_until(backlog.wait_ns(task), task.period_ns, at_ns)
        first = backlog.now_ns + at_ns - (own - 1) * task.period_ns
        coming += periodic(task, backlog.order, first_ns=first, count=min(own, MAX_RELEASES))
        return Finding(
            victim=task.name, kind=Reason.RESPONSE, bound_ns=end_ns - at_ns, limit_ns=task.deadline_ns,
            reason=f"a job of {task.name} that comes in {at_ns} ns could take {end_ns - at_ns} ns, its "
                   f"deadline is {task.deadline_ns} ns",
            exact=True, counterexample=backlog.show(coming),
        )  # fmt: skip

    def _blocked(self, job: Pending, level: Level, response: Response) -> Finding:
        task = level.task
        return Finding(
            victim=task.name, kind=Reason.BLOCKING, bound_ns=response.response_ns, limit_ns=task.deadline_ns,
            reason=f"a job of {task.name} could take {response.response_ns} ns or more behind a segment of "
                   f"{job.subject} that began before it, its deadline is {task.deadline_ns} ns",
            exact=False, counterexample=self._show_blocked(job, level, response),
        )  # fmt: skip

    def _show_blocked(self, job: Pending, level: Level, response: Response) -> Timeline | None:
        """The blocked schedule, where the job can begin now and the tasks can come in time."""
        backlog = self._backlog
        if backlog.holder is not None or len(backlog.pending) != 1:
            return None
        pieces = job.pieces_ns
        lead = sum(pieces[: pieces.index(max(pieces))]) + 1
        at, span = response.released_ns, response.released_ns + response.response_ns
        counts = [(other, span // other.period_ns + 1) for other in level.urgent]
        counts += [(other, at // other.period_ns + 1) for other in level.equals if other is not level.task]
        own = at // level.task.period_ns + 1
        coming = []
        for other, count in counts:
            if backlog.wait_ns(other) > lead:
                return None
            coming += periodic(
                other, backlog.order, first_ns=backlog.now_ns + lead, count=min(count, MAX_RELEASES)
            )
        first = lead + at - (own - 1) * level.task.period_ns
        if backlog.wait_ns(level.task) > first:
            return None
        coming += periodic(
            level.task, backlog.order, first_ns=backlog.now_ns + first, count=min(own, MAX_RELEASES)
        )
        return backlog.show(coming)
