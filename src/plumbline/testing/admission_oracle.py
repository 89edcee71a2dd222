"""The slow twin of the admission tests: every legal future of a small task set, unit by unit.

It shares no code with the tests that it judges. A state is what a stream knows at an instant; an adversary
chooses who is released, in which order, and, where wanted, how long each segment takes. If no reachable state
holds a late job, no release pattern of any length misses a deadline.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import NamedTuple

from plumbline.scheduling.admission.orders import Order
from plumbline.scheduling.admission.tasks import PeriodicTask

__all__ = ["OracleTooLarge", "can_miss"]


NEVER = -1
"""Wait of a task that does not come again."""


class OracleTooLarge(Exception):
    """The search visited as many states as it may."""


class Job(NamedTuple):
    """A job in the queue: whose, its next segment, time left to its deadline."""

    task: int
    segment: int
    left: int


class State(NamedTuple):
    """What a stream knows: time until each task may come, jobs in order of arrival, and what runs."""

    waits: tuple[int, ...]
    queue: tuple[Job, ...]
    running: int
    """Place in the queue of the job that holds the stream, or -1."""
    rest: int
    """Time until its segment ends."""


def can_miss(
    tasks: Sequence[PeriodicTask],
    order: Order,
    *,
    best_effort_segment_ns: int = 0,
    varied: bool = False,
    waits: Sequence[int] | None = None,
    pending: Sequence[PeriodicTask] = (),
    held: tuple[int, int] | None = None,
    most_states: int = 400_000,
) -> bool:
    """Whether any legal future misses a deadline.

    Args:
        tasks: with times of a few units.
        order: who goes first.
        best_effort_segment_ns: unpromised work of this length may turn up at any time.
        varied: each segment may also take any shorter time of at least one unit.
        waits: time until each task may come; 0 for all when None.
        pending: jobs that wait at the begin, in order of arrival, each as a task that never comes again, with
            the time left to its deadline.
        held: place in `pending` of the job that holds the stream, or -1 for unpromised work, and the time
            until its segment ends.
        most_states: give up beyond this.

    Raises:
        OracleTooLarge: there are more states.
    """
    everything = (*tasks, *pending)
    search = _Search(everything, order, best_effort_segment_ns, varied)
    jobs = [
        Job(task=len(tasks) + place, segment=0, left=job.deadline_ns) for place, job in enumerate(pending)
    ]
    running, rest = held if held is not None else (-1, 0)
    if held is not None and running < 0:
        jobs.append(Job(task=len(everything), segment=0, left=0))
        running = len(jobs) - 1
    first = tuple(waits) if waits is not None else (0,) * len(tasks)
    start = State(waits=first + (NEVER,) * len(pending), queue=tuple(jobs), running=running, rest=rest)
    seen, open_states = {start}, [start]
    while open_states:
        for state in search.successors(open_states.pop()):
            if state is None:
                return True
            if state not in seen:
                seen.add(state)
                open_states.append(state)
        if len(seen) > most_states:
            raise OracleTooLarge(f"{len(seen)} states")
    return False


class _Search:
    def __init__(self, tasks: Sequence[PeriodicTask], order: Order, best_effort: int, varied: bool) -> None:
        self.tasks, self.order, self.best_effort, self.varied = tasks, order, best_effort, varied
        self.segments = [task.pieces_ns for task in tasks] + [(best_effort,)]

    def successors(self, state: State) -> Iterator[State | None]:
        """Every state one unit later; None for one in which a job is late."""
        for arrived in self._arrivals(state):
            if arrived.running >= 0:
                yield self._tick(arrived)
                continue
            if not arrived.queue:
                yield self._tick(arrived)
                continue
            first = min(range(len(arrived.queue)), key=lambda place: self._key(arrived.queue[place], place))
            job = arrived.queue[first]
            bound = self.segments[job.task][job.segment]
            for rest in range(1 if self.varied else bound, bound + 1):
                yield self._tick(arrived._replace(running=first, rest=rest))

    def _arrivals(self, state: State) -> Iterator[State]:
        ready = [place for place, wait in enumerate(state.waits) if wait == 0]
        if self.best_effort and all(job.task != len(self.tasks) for job in state.queue):
            ready.append(len(self.tasks))
        for mask in range(1 << len(ready)):
            chosen = [task for bit, task in enumerate(ready) if mask >> bit & 1]
            waits = tuple(
                self.tasks[task].period_ns if task in chosen else wait
                for task, wait in enumerate(state.waits)
            )
            for arrival in permutations(chosen):
                jobs = tuple(Job(task=task, segment=0, left=self._deadline(task)) for task in arrival)
                yield state._replace(waits=waits, queue=state.queue + jobs)

    def _deadline(self, task: int) -> int:
        return self.tasks[task].deadline_ns if task < len(self.tasks) else 0

    def _key(self, job: Job, place: int) -> tuple[int, ...]:
        if job.task == len(self.tasks):
            return (1, 0, place)
        task = self.tasks[job.task]
        if self.order is Order.EDF:
            return (0, job.left, place)
        rank = task.period_ns if self.order is Order.RATE_MONOTONIC else -task.priority
        return (0, rank, place)

    def _tick(self, state: State) -> State | None:
        waits = tuple(wait - 1 if wait > 0 else wait for wait in state.waits)
        queue = [
            job if job.task == len(self.tasks) else job._replace(left=job.left - 1) for job in state.queue
        ]
        running, rest = state.running, state.rest - 1
        if running >= 0 and rest == 0:
            job = queue[running]
            if job.segment + 1 < len(self.segments[job.task]):
                queue[running] = job._replace(segment=job.segment + 1)
            else:
                del queue[running]
                if job.left < 0 and job.task < len(self.tasks):
                    return None
            running = -1
        if any(job.left <= 0 and job.task < len(self.tasks) for job in queue):
            return None
        return State(
            waits=waits, queue=tuple(queue), running=running, rest=max(rest, 0) if running >= 0 else 0
        )
