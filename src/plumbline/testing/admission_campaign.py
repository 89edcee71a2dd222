"""A random campaign against the admission tests.

    python -m plumbline.testing.admission_campaign --sets 10000 --seed 1

For each random task set and order: a set that is admitted runs in virtual time under its worst patterns and
random sporadic releases, with execution times varied below the bound, beside best-effort work, and must
miss nothing; a set that is refused must come with a schedule that is legal and misses a deadline. A share
of the sets also runs as a stream with one-shots that come and go (`run_stream`). Whether a schedule is legal
is judged by `verify_schedule`, which shares no code with the simulator.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from plumbline.scheduling.admission.counterexample import key_of, periodic
from plumbline.scheduling.admission.orders import Order, rank_of
from plumbline.scheduling.admission.promises import StreamPromises
from plumbline.scheduling.admission.sets import decide_task_set
from plumbline.scheduling.admission.tasks import OneShot, PeriodicTask
from plumbline.scheduling.admission.verdict import Refused
from plumbline.scheduling.simulation import BEST_EFFORT, Release, Timeline, simulate

__all__ = ["Campaign", "random_tasks", "run_campaign", "run_stream", "verify_schedule"]

STREAM_SHARE = 10
"""One stream with one-shots for this many task sets."""

MOST_RELEASES = 2_000_000
"""Of a counter-example: near a utilisation of one the first miss is far away."""


@dataclass(slots=True)
class Campaign:
    """Counts of a campaign; the campaign owns it.

    Attributes:
        counts: what happened how often.
        failures: what must not happen, in words, with the seed of the set.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"counts": dict(sorted(self.counts.items())), "failures": self.failures}


def random_tasks(rng: random.Random) -> list[PeriodicTask]:
    """1 to 6 tasks with a total utilisation of about 30 % to 105 %, shares uniform over the simplex.

    Shares as UUniFast does it (Bini, Buttazzo 2005), then rounded to whole time units.
    """
    count = rng.randint(1, 6)
    left, tasks = rng.uniform(0.3, 1.05), []
    for index in range(count):
        rest = left * rng.random() ** (1 / (count - index - 1)) if index < count - 1 else 0.0
        period = int(10 ** rng.uniform(1, 3))
        cost = max(1, round((left - rest) * period))
        left = rest
        deadline = max(1, round(period * rng.choice((1.0, rng.uniform(0.5, 1.0), rng.uniform(1.0, 2.5)))))
        tasks.append(
            PeriodicTask(
                name=f"t{index}", graph="m@1", period_ns=period, deadline_ns=max(deadline, cost),
                segments_ns=_split(rng, cost), priority=rng.randint(0, 9),
            )
        )  # fmt: skip
    return tasks


def run_campaign(sets: int, seed: int) -> Campaign:
    """Judge `sets` random task sets."""
    campaign = Campaign()
    for number in range(sets):
        rng = random.Random(f"{seed}/{number}")
        tasks, order = random_tasks(rng), rng.choice(tuple(Order))
        shortest = min(task.deadline_ns for task in tasks)
        best_effort = rng.choice((0, 0, rng.randint(1, max(1, shortest // 3))))
        _judge_set(campaign, rng, tasks, order, best_effort, f"seed {seed}, set {number}")
        if number % STREAM_SHARE == 0:
            campaign.counts["streams"] += 1
            run_stream(campaign, rng, tasks, order, best_effort, f"seed {seed}, stream {number}")
    return campaign


def _judge_set(
    campaign: Campaign, rng: random.Random, tasks: Sequence[PeriodicTask], order: Order, best_effort: int,
    where: str,
) -> None:  # fmt: skip
    verdict = decide_task_set(tasks, order, best_effort_segment_ns=best_effort, most_releases=MOST_RELEASES)
    campaign.counts[f"{order.value} {'admitted' if verdict.accepted else 'refused'}"] += 1
    if isinstance(verdict, Refused):
        campaign.counts[f"refused: {verdict.kind.value}"] += 1
        if verdict.counterexample is None or not verdict.exact:
            campaign.failures.append(f"{where}: refused without a counter-example ({verdict.reason})")
            return
        wrong = verify_schedule(verdict.counterexample, tasks, order, best_effort)
        if wrong:
            campaign.failures.append(f"{where}: the counter-example is not legal: {wrong}")
        return
    for pattern in range(2 + len(tasks)):
        releases = _pattern(rng, tasks, order, best_effort, pattern)
        timeline = simulate(releases, key_of(order))
        campaign.counts["jobs of admitted sets"] += len(releases)
        campaign.counts["missed by admitted sets"] += len(timeline.misses)
        if timeline.misses:
            campaign.failures.append(f"{where}: admitted, and {timeline.misses[0]}")


def _pattern(
    rng: random.Random, tasks: Sequence[PeriodicTask], order: Order, best_effort: int, pattern: int
) -> list[Release]:
    """Releases: 0 all at once at full cost, then one blocked by each task in turn, else at random."""
    span = 12 * max(task.period_ns for task in tasks)
    releases: list[Release] = []
    blocker = tasks[pattern - 1] if 0 < pattern <= len(tasks) else None
    lead = 0
    if blocker is not None:
        pieces = blocker.pieces_ns
        lead = sum(pieces[: pieces.index(max(pieces))]) + 1
        releases += periodic(blocker, order, first_ns=0, count=1)
    for task in tasks:
        first = lead if task is not blocker else task.period_ns
        if pattern > len(tasks):
            first = rng.randint(0, task.period_ns)
        releases += _sporadic(rng, task, order, first, span, exact=pattern <= len(tasks))
    at = 0
    while best_effort and at < span:
        releases.append(_best_effort(rng, at, best_effort))
        at += rng.randint(1, max(2, span // 8))
    rng.shuffle(releases)
    return releases


def _sporadic(
    rng: random.Random, task: PeriodicTask, order: Order, first: int, span: int, *, exact: bool
) -> list[Release]:
    full = exact and rng.random() < 0.5
    releases, at, job = [], first, 1
    while at < span:
        bounds = task.pieces_ns
        taken = bounds if full else tuple(rng.choice((b, b, rng.randint(1, b))) for b in bounds)
        releases.append(
            Release(
                task=task.name, job=job, released_ns=at, deadline_ns=at + task.deadline_ns, segments_ns=taken,
                rank=rank_of(task, order),
            )
        )  # fmt: skip
        at, job = at + task.period_ns, job + 1
        if not exact and rng.random() < 0.4:
            at += rng.randint(0, task.period_ns)
    return releases


def _best_effort(rng: random.Random, at: int, segment: int) -> Release:
    pieces = tuple(rng.randint(1, segment) for _ in range(rng.randint(1, 3)))
    return Release(
        task=BEST_EFFORT, job=at, released_ns=at, deadline_ns=None, segments_ns=pieces, promised=False
    )


def _split(rng: random.Random, cost: int) -> tuple[int, ...]:
    cuts = sorted({rng.randint(1, cost) for _ in range(rng.randint(0, 3))} - {cost})
    return tuple(after - before for before, after in zip([0, *cuts], [*cuts, cost], strict=True))


def verify_schedule(
    timeline: Timeline, tasks: Sequence[PeriodicTask], order: Order, best_effort: int
) -> str | None:
    """What is wrong with a schedule as a counter-example; None if it is legal and misses a deadline.

    Legal: releases of a task are at least its period apart, with its deadline; every segment takes its bound;
    one thing runs at a time, in the order of its job; whoever begins is first among those that wait; nothing
    waits while the stream is free.
    """
    known = {task.name: task for task in tasks}
    last: dict[str, int] = {}
    for release in timeline.releases:
        task = known.get(release.task)
        if task is None:
            if release.promised or max(release.segments_ns) > best_effort:
                return f"{release.task} is no task, and longer than best effort may be"
            continue
        if release.released_ns - last.get(task.name, -task.period_ns) < task.period_ns:
            return f"{task.name} is released too early"
        last[task.name] = release.released_ns
        if (
            release.segments_ns != task.pieces_ns
            or release.deadline_ns != release.released_ns + task.deadline_ns
        ):
            return f"{task.name} has other costs or another deadline"
    return _verify_pieces(timeline, order)


def _verify_pieces(timeline: Timeline, order: Order) -> str | None:
    jobs = {(release.task, release.job): release for release in timeline.releases}
    arrivals = deque(enumerate(jobs))
    waiting: dict[tuple[str, int], tuple[float, ...]] = {}
    done = dict.fromkeys(jobs, 0)
    free = 0
    for piece in timeline.pieces:
        name, job = (piece.task, piece.job), jobs[piece.task, piece.job]
        while arrivals and jobs[arrivals[0][1]].released_ns <= piece.begin_ns:
            place, arrived = arrivals.popleft()
            if free < piece.begin_ns and jobs[arrived].released_ns < piece.begin_ns:
                return f"{arrived} waits while the stream is free"
            waiting[arrived] = (*_key(jobs[arrived], order), place)
        if piece.begin_ns < free or name not in waiting or piece.segment != done[name]:
            return f"{name} runs out of turn"
        if min(waiting.values()) != waiting[name]:
            return f"{name} was not first"
        if piece.end_ns - piece.begin_ns != job.segments_ns[piece.segment]:
            return f"{name} takes another time"
        done[name] += 1
        free = piece.end_ns
        if done[name] == len(job.segments_ns):
            del waiting[name]
            if job.deadline_ns is not None and free > job.deadline_ns:
                return None if timeline.misses[0].job == piece.job else "it misses something else"
    return "nothing misses"


def _key(release: Release, order: Order) -> tuple[float, float]:
    if not release.promised:
        return (1, 0)
    deadline = float("inf") if release.deadline_ns is None else release.deadline_ns
    return (0, deadline if order is Order.EDF else release.rank)


def run_stream(
    campaign: Campaign, rng: random.Random, tasks: Sequence[PeriodicTask], order: Order, best_effort: int,
    where: str,
) -> None:  # fmt: skip
    """A stream that lives: tasks register and come, one-shots ask, best-effort work fills the rest."""
    promises = StreamPromises(order.value, best_effort_segment_ns=best_effort)
    for task in tasks:
        promises.register_task(task, 0)
    _LivingStream(campaign, rng, promises, where).run(12 * max(task.period_ns for task in tasks))


class _LivingStream:
    """Plays the loop of an engine in virtual time, one time unit after the other where something waits."""

    def __init__(self, campaign: Campaign, rng: random.Random, promises: StreamPromises, where: str) -> None:
        self.campaign, self.rng, self.promises, self.where = campaign, rng, promises, where
        self.alive: dict[str, tuple[tuple[Any, ...], list[int]]] = {}
        self.number = 0

    def run(self, span: int) -> None:
        tasks = self.promises.tasks
        coming = {task.name: self.rng.randint(0, task.period_ns) for task in tasks}
        asks = sorted(self.rng.randint(0, span) for _ in range(30))
        now = until = 0
        running = ""
        while now < span or running or any(key[0] == 0 for key, _ in self.alive.values()):
            if running and now >= until:
                self._end(running, now)
                running = ""
            for task in tasks:
                if now >= coming[task.name] and now < span:
                    self._release(task, now)
                    late = self.rng.choice((0, 0, self.rng.randint(0, task.period_ns)))
                    coming[task.name] = now + task.period_ns + late
            while asks and asks[0] <= now:
                asks.pop(0)
                self._ask(now)
            if not running and self.alive:
                running = min(self.alive, key=lambda name: self.alive[name][0])
                until = now + self._begin(running, now)
            events = [*coming.values(), *asks[:1]] if now < span else []
            if running:
                events.append(until)
            now = max(now + 1, min(events, default=now + 1))

    def _release(self, task: PeriodicTask, now: int) -> None:
        self.number += 1
        name = f"{task.name}/{self.number}"
        verdict = self.promises.release(task.name, name, now)
        if verdict.accepted:
            order = self.promises.order
            key = now + task.deadline_ns if order is Order.EDF else rank_of(task, order)
            self.alive[name] = ((0, key, self.number), list(task.pieces_ns))
            self.campaign.counts["stream: jobs of tasks"] += 1
        else:
            self.campaign.counts["stream: releases one unit after a start"] += 1

    def _ask(self, now: int) -> None:
        self.number += 1
        rng, order = self.rng, self.promises.order
        name, allowed = f"one/{self.number}", self.promises.best_effort_segment_ns
        if allowed and rng.random() < 0.4:
            pieces = [rng.randint(1, allowed) for _ in range(rng.randint(1, 4))]
            self.alive[name] = ((1, self.number), pieces)
            return
        pieces = [rng.randint(1, 40) for _ in range(rng.randint(1, 3))]
        job = OneShot(
            id=name, graph="m@1", segments_ns=tuple(pieces), arrived_ns=now, priority=rng.randint(0, 9),
            deadline_ns=now + round(sum(pieces) * rng.uniform(0.8, 12)),
            period_ns=rng.choice((None, 20, 300)),
        )  # fmt: skip
        verdict = self.promises.consider(job, now)
        self.campaign.counts[f"stream: one-shots {'promised' if verdict.accepted else 'refused'}"] += 1
        if verdict.accepted:
            key = job.deadline_ns if order is Order.EDF else rank_of(job, order)
            self.alive[name] = ((0, key, self.number), pieces)

    def _begin(self, name: str, now: int) -> int:
        bound = self.alive[name][1][0]
        self.promises.started(name, now, bound_ns=bound)
        return self.rng.choice((bound, bound, self.rng.randint(1, bound)))

    def _end(self, name: str, now: int) -> None:
        pieces = self.alive[name][1]
        pieces.pop(0)
        self.promises.segment_done(name, now)
        if not pieces:
            del self.alive[name]
            breach = self.promises.finished(name, now)
            if breach is not None:
                self.campaign.counts["stream: promises broken"] += 1
                self.campaign.failures.append(f"{self.where}: {breach}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign and print its document; 1 if anything failed."""
    parser = argparse.ArgumentParser(description="random campaign against the admission tests")
    parser.add_argument("--sets", type=int, default=10_000, help="task sets (default 10000)")
    parser.add_argument("--seed", type=int, default=1, help="seed (default 1)")
    options = parser.parse_args(arguments)
    campaign = run_campaign(options.sets, options.seed)
    sys.stdout.write(
        json.dumps({"sets": options.sets, "seed": options.seed, **campaign.document()}, indent=2)
    )
    sys.stdout.write("\n")
    return 1 if campaign.failures else 0


if __name__ == "__main__":
    sys.exit(main())
