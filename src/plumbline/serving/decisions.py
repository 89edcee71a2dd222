"""`LoggedDecisions`: why a request ran when and where it did, read from decision logs alone.

The gateway writes its routes into one log and every worker its schedule into another, all below one folder.
A segment begins with a snapshot, so only those that name the request are replayed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from plumbline.contracts.records import decode_record
from plumbline.contracts.requests import RequestId
from plumbline.scheduling.explanation import Explanation, RequestNotLogged, explain, tell_lost_workers
from plumbline.scheduling.explanation_text import explanation_lines
from plumbline.scheduling.policies.registry import open_policy
from plumbline.scheduling.policy import SchedulingPolicy
from plumbline.scheduling.spans import LaunchSpan, read_spans
from plumbline.telemetry.decision_log_files import SUFFIX, log_names, read_segment, segment_files

__all__ = ["LoggedDecisions", "explain_from_logs"]

_TIMELINE_SEGMENTS = 1


class LoggedDecisions:
    """Implements `serving.ports.DecisionService`; reading happens off the event loop, one at a time.

    Args:
        folder: holds all logs of this gateway, in folders of any depth.
        policy: makes a policy from the name in a log.
    """

    def __init__(self, folder: Path, policy: Callable[[str], SchedulingPolicy] = open_policy) -> None:
        self._folder, self._policy = folder, policy
        self._reading = asyncio.Lock()

    async def explain(self, request: RequestId) -> Mapping[str, Any]:
        """The explanation by log, and as lines for people.

        Raises:
            RequestNotLogged: no kept record names it.
        """
        async with self._reading:
            return await asyncio.to_thread(explain_from_logs, self._folder, request, self._policy)

    async def timeline(self, last: int) -> Sequence[Mapping[str, Any]]:
        """The last launches of every worker, by begin."""
        async with self._reading:
            return await asyncio.to_thread(_timeline, self._folder, last)


def explain_from_logs(
    folder: Path, request: str, policy: Callable[[str], SchedulingPolicy] = open_policy
) -> dict[str, Any]:
    """What all logs below a folder say of a request.

    Returns:
        `request`, `lines` for people, and `logs`: for each log that names it, its explanation.

    Raises:
        RequestNotLogged: none names it.
        DecisionLogDamaged, ReplayDiverged: a log that names it is not what was written.
        RulesDiffer, PolicyUnknown: it was decided by other rules than those that are here.
    """
    found: dict[str, Explanation] = {}
    for name, bodies in _naming(folder, request.encode()):
        try:
            found[name] = explain(bodies, request, policy=policy)
        except RequestNotLogged:  # the bytes belong to another id that contains this one
            continue
    if not found:
        raise RequestNotLogged(request_id=request[:128])
    tell_lost_workers(found)
    lines = [line for name, one in found.items() for line in (f"[{name}]", *explanation_lines(one))]
    return {
        "request": request,
        "lines": lines,
        "logs": {name: one.to_dict() for name, one in found.items()},
    }


def _logs(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """Every log: its name below the folder, and its segments in order."""
    folders = sorted({path.parent for path in folder.rglob(f"*{SUFFIX}")})
    for place in folders:
        for name in log_names(place):
            below = place.relative_to(folder).as_posix()
            yield (name if below == "." else below), [path for _, path in segment_files(place, name)]


def _naming(folder: Path, request: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Logs that name a request, with the bodies from its first to its last segment."""
    for name, segments in _logs(folder):
        holding = [index for index, path in enumerate(segments) if request in _bytes(path)]
        if holding:
            yield name, list(_bodies(segments[holding[0] : holding[-1] + 1]))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # rotated away meanwhile
        return b""


def _bodies(segments: Iterable[Path]) -> Iterator[bytes]:
    for path in segments:
        for record in read_segment(path).records:
            yield record.body


def _timeline(folder: Path, last: int) -> list[dict[str, Any]]:
    launches: list[dict[str, Any]] = []
    for name, segments in _logs(folder):
        records = (decode_record(body) for body in _bodies(segments[-_TIMELINE_SEGMENTS:]))
        launches.extend(_launch(name, span) for span in read_spans(records).launches[-last:])
    launches.sort(key=lambda launch: launch["began_ns"])
    return launches[-last:]


def _launch(worker: str, span: LaunchSpan) -> dict[str, Any]:
    return {
        "worker": worker,
        "launch": span.number,
        "stream": span.stream,
        "model": span.graph,
        "requests": list(span.requests),
        "selected_ns": span.selected_ns,
        "began_ns": span.began_ns,
        "ended_ns": span.ended_ns,
    }
