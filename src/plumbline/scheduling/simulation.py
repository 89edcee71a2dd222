"""A stream in virtual time: jobs of non-preemptive segments, one order, and who missed a deadline.

Rules, the same as on a real stream: at a decision the job with the lowest key runs its next segment to the
end; arrivals at an instant are seen by the decision at that instant; the stream never idles while a job
waits. Simulation refutes: a miss is a fact. It proves nothing about other releases or shorter jobs.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "BEST_EFFORT",
    "Miss",
    "OrderKey",
    "Piece",
    "Release",
    "Timeline",
    "by_deadline",
    "by_rank",
    "simulate",
]

BEST_EFFORT = "best effort"
"""Name of unpromised work in a timeline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One job and when it arrives.

    Attributes:
        task: name of its task, or id of a one-shot.
        job: number among the jobs of its task.
        released_ns: when it arrives.
        deadline_ns: when it must be done, absolute; None for never.
        segments_ns: how long each segment really takes.
        rank: place in a fixed order, lower first.
        promised: False for best-effort work, which goes after all promised work.
    """

    task: str
    job: int
    released_ns: int
    deadline_ns: int | None
    segments_ns: tuple[int, ...]
    rank: int = 0
    promised: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A segment that ran: from `begin_ns` up to `end_ns`."""

    task: str
    job: int
    segment: int
    begin_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A job that ended after its deadline."""

    task: str
    job: int
    deadline_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What ran when on one stream.

    Attributes:
        stream: index of the stream.
        releases: jobs in order of arrival.
        pieces: segments in the order in which they ran.
        misses: jobs that ended too late, in order of their end.
    """

    stream: int
    releases: tuple[Release, ...]
    pieces: tuple[Piece, ...]
    misses: tuple[Miss, ...]

    def document(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "stream": self.stream,
            "releases": [
                {"task": r.task, "job": r.job, "released_ns": r.released_ns, "deadline_ns": r.deadline_ns}
                for r in self.releases
            ],
            "pieces": [
                {
                    "task": p.task,
                    "job": p.job,
                    "segment": p.segment,
                    "begin_ns": p.begin_ns,
                    "end_ns": p.end_ns,
                }
                for p in self.pieces
            ],
            "misses": [
                {"task": m.task, "job": m.job, "deadline_ns": m.deadline_ns, "end_ns": m.end_ns}
                for m in self.misses
            ],
        }


OrderKey = Callable[[Release], tuple[int, ...]]
"""Lower goes first; the place in the order of arrival breaks ties."""


def by_deadline(release: Release) -> tuple[int, ...]:
    """Earliest deadline first; best-effort work after all promised work.

    >>> by_deadline(Release(task="a", job=0, released_ns=0, deadline_ns=7, segments_ns=(1,)))
    (0, 0, 7)
    """
    return (not release.promised, release.deadline_ns is None, release.deadline_ns or 0)


def by_rank(release: Release) -> tuple[int, ...]:
    """Fixed order by `rank`; best-effort work after all promised work."""
    return (not release.promised, release.rank)


def simulate(
    releases: Sequence[Release],
    key: OrderKey,
    *,
    stream: int = 0,
    running: Release | None = None,
    stop_at_miss: bool = False,
) -> Timeline:
    """Run jobs to their end in virtual time.

    Args:
        releases: jobs; those that arrive at one instant arrive in the order given.
        key: who goes first.
        stream: index, for the timeline.
        running: a job whose first segment has begun before anything else can be decided, at its
            `released_ns`; no release may be earlier.
        stop_at_miss: end with the first job that misses.

    Returns:
        The timeline. Equal arguments give equal timelines.
    """
    arrivals = sorted(releases, key=lambda r: r.released_ns)
    waiting: list[tuple[tuple[int, ...], int, int, Release]] = []
    pieces: list[Piece] = []
    misses: list[Miss] = []
    now, coming = 0, 0
    if running is not None:
        now = running.released_ns
        heapq.heappush(waiting, ((-1,), -1, 0, running))
    while waiting or coming < len(arrivals):
        if not waiting:
            now = max(now, arrivals[coming].released_ns)
        while coming < len(arrivals) and arrivals[coming].released_ns <= now:
            job = arrivals[coming]
            heapq.heappush(waiting, (key(job), coming, 0, job))
            coming += 1
        _, place, segment, job = heapq.heappop(waiting)
        begin, now = now, now + job.segments_ns[segment]
        pieces.append(Piece(task=job.task, job=job.job, segment=segment, begin_ns=begin, end_ns=now))
        if segment + 1 < len(job.segments_ns):
            heapq.heappush(waiting, (key(job), place, segment + 1, job))
        elif job.deadline_ns is not None and now > job.deadline_ns:
            misses.append(Miss(task=job.task, job=job.job, deadline_ns=job.deadline_ns, end_ns=now))
            if stop_at_miss:
                break
    known = arrivals[:coming] if running is None else [running, *arrivals[:coming]]
    return Timeline(stream=stream, releases=tuple(known), pieces=tuple(pieces), misses=tuple(misses))
