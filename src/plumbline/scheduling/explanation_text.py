"""An explanation as plain lines. Times are milliseconds after the request arrived."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from plumbline.scheduling.explanation import Explanation, Passage

__all__ = ["explanation_lines"]

_FEW = 5
_NOW = {
    "alone": "it takes no company",
    "filled": "the launch was filled to its bound",
    "due": "nothing more was waited for",
}
_REASONS = {
    "behind": "others went first",
    "launch_full": "its launch was full",
    "graph_busy": "its graph was busy",
    "bound_elsewhere": "another stream was free",
    "not_above": "a running launch went on",
    "held": "it waited for company",
}


def explanation_lines(explanation: Explanation) -> list[str]:
    """What people read."""
    policy = f", policy {explanation.policy}" if explanation.policy else ""
    lines = [f"request {explanation.request}{policy}"]
    for route in explanation.routes:
        lines.append(_route_line(route, _ms(route["time_ns"], explanation.routes[0]["time_ns"])))
    for number, passage in enumerate(explanation.passages, start=1):
        if len(explanation.passages) > 1:
            lines.append(f"pass {number} of {len(explanation.passages)} through the queue")
        lines.extend(_passage_lines(explanation.request, passage))
    return lines


def _route_line(route: dict[str, Any], moment: str) -> str:
    fields = route["fields"]
    rejected = "; ".join(f"{name}: {why}" for name, why in route["rejected"])
    match route["reason"]:
        case "worker_lost":
            line = f"{moment} lost with worker {fields.get('lost')} ({fields.get('because')})"
        case "answered":
            return f"{moment} answered with {fields.get('status')} {fields.get('code')}"
        case reason:
            line = f"routed to {route['chosen'] or 'nobody'} ({reason})"
    return line + (f"; not {rejected}" if rejected else "")


def _passage_lines(request: str, passage: Passage) -> Iterator[str]:
    start_ns = _start_ns(passage)
    yield from _arrival_lines(passage, start_ns)
    yield from _waiting_lines(passage, start_ns)
    yield from _launch_lines(request, passage, start_ns)
    yield _end_line(passage, start_ns)
    if passage.breach is not None:
        late_ms = passage.breach["late_ns"] / 1e6
        yield f"PROMISE BROKEN: {late_ms:.3f} ms late, cause {passage.breach['cause']}"


def _start_ns(passage: Passage) -> int:
    for found in (passage.arrived, passage.selection, passage.ended):
        if found is not None:
            return int(found["time_ns"])
    return 0


def _arrival_lines(passage: Passage, start_ns: int) -> Iterator[str]:
    arrived = passage.arrived
    if arrived is None:
        yield "it arrived before the kept part of the log"
        return
    text = (
        f"{_ms(arrived['time_ns'], start_ns)} arrived for {_place(arrived['graph'])}, "
        f"tenant {arrived['tenant']!r}, "
    )
    text += f"priority {arrived['priority']}"
    if arrived["deadline_ns"] is not None:
        text += f", deadline {_ms(arrived['deadline_ns'], start_ns)}"
    if "depth" in arrived:
        text += f"; {arrived['depth'] - 1} queued before it"
    yield text
    if passage.promise is not None:
        yield f"promised within {passage.promise['bound_ns'] / 1e6:.3f} ms"
    for launch in passage.running:
        yield f"then stream {launch['stream']} ran launch {launch['launch']} of {_place(launch['graph'])}"


def _waiting_lines(passage: Passage, start_ns: int) -> Iterator[str]:
    for seen in passage.passed_over[:_FEW]:
        yield (
            f"{_ms(seen['time_ns'], start_ns)} launch {seen['launch']} on stream {seen['stream']} took "
            f"{_names(seen['requests'])}: {seen['because']}"
        )
    total = sum(passage.passed_over_count.values())
    if total > _FEW:
        counts = ", ".join(f"{_REASONS.get(k, k)} {n} times" for k, n in passage.passed_over_count.items())
        yield f"in all passed over {total} times: {counts}"
    for hold in passage.holds[:_FEW]:
        yield (
            f"{_ms(hold['time_ns'], start_ns)} stream {hold['stream']} waited for company of it, until "
            f"{_ms(hold['until_ns'], start_ns)} at the latest"
        )


def _launch_lines(request: str, passage: Passage, start_ns: int) -> Iterator[str]:
    chosen = passage.selection
    if chosen is None:
        return
    others = [name for name in chosen["requests"] if name != request]
    company = f" with {_names(others)}" if len(chosen["requests"]) > 1 else ""
    yield (
        f"{_ms(chosen['time_ns'], start_ns)} chosen for launch {chosen['launch']} "
        f"on stream {chosen['stream']}{company}, after {chosen['waited_ns'] / 1e6:.3f} ms in the queue"
    )
    who = "" if chosen["is_head"] else f"its head {chosen['requests'][0]}: "
    yield f"why first: {who}{chosen['why_first']}"
    yield f"why now: {_NOW.get(chosen['why_now'], chosen['why_now'])}"
    if chosen["losers_count"]:
        yield f"left behind: {chosen['losers_count']}"
    for loser in chosen["losers"][:_FEW]:
        yield f"  {loser['request']}: {loser['because']}"
    if passage.started_ns is not None:
        yield f"{_ms(passage.started_ns, start_ns)} the launch began"
    for event in passage.interruptions:
        if event.get("cancelled"):
            yield f"{_ms(event['time_ns'], start_ns)} cancelled while it ran"
        else:
            yield (
                f"{_ms(event['time_ns'], start_ns)} interrupted before segment {event['before_segment']} "
                f"by launch {event['launch']} ({_names(event['requests'])}): {event['because']}"
            )


def _end_line(passage: Passage, start_ns: int) -> str:
    ended: dict[str, Any] | None = passage.ended
    if ended is None:
        return "its end is not in this log"
    moment = _ms(ended["time_ns"], start_ns)
    match ended["how"]:
        case "finished":
            return f"{moment} finished: {ended['outcome']}"
        case "expired":
            due = _ms(ended["due_ns"], start_ns)
            return f"{moment} expired in the queue: {ended['cause']} was {due}; it never ran"
        case "cancelled":
            return f"{moment} cancelled {ended['where']}; it never ran"
        case "refused":
            values = ", ".join(f"{name} {value}" for name, value in ended["fields"].items())
            return f"{moment} refused: {ended['reason']}" + (f" ({values})" if values else "")
        case "not_recorded":
            return f"{moment} the log could be written again; {ended['missed']} records were missed before"
        case _:
            return f"{moment} its worker ended before it did"


def _ms(time_ns: int, start_ns: int) -> str:
    return f"{(time_ns - start_ns) / 1e6:+.3f} ms"


def _place(graph: str) -> str:
    """What a graph of the run queue is to people: a version, or a stage of a pipeline (counted from 0)."""
    version, _, stage = graph.rpartition("/")
    return f"stage {stage} of pipeline {version}" if version else graph


def _names(requests: list[str]) -> str:
    shown = ", ".join(requests[:_FEW])
    return shown if len(requests) <= _FEW else f"{shown} and {len(requests) - _FEW} more"
