"""Launches and waits of a log as a picture (SVG) and as Chrome trace JSON, for the Perfetto viewer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plumbline.scheduling import svg
from plumbline.scheduling.spans import LaunchSpan, LogSpans, RequestSpan

__all__ = ["perfetto_document", "timeline_svg"]

MOST_LAUNCHES = 2000
MOST_REQUESTS = 400
_WIDTH, _LEFT, _ROW, _THIN = 1400.0, 90.0, 26.0, 7.0


def timeline_svg(logs: Sequence[tuple[str, LogSpans]]) -> str:
    """Streams with their launches above, requests with their waits and deadlines below.

    A bar of a stream is a launch, coloured by graph. Of a request the grey part is its wait, the coloured
    part its launch; a red tick is its deadline. Of a long log the last 2000 launches and 400 requests of each
    worker are drawn, and the picture says so.
    """
    scale = _Scale(logs)
    shapes: list[str] = []
    y = 20.0
    for name, spans in logs:
        shapes.append(svg.text(4, y, _caption(name, spans)))
        y = _draw_streams(shapes, spans, scale, y + 8)
        y = _draw_requests(shapes, spans, scale, y + 6) + 24
    shapes.append(svg.text(_LEFT, y, f"{scale.length_ns / 1e6:.3f} ms from left to right"))
    return svg.document(_WIDTH + 20, y + 12, shapes)


class _Scale:
    """Time to place, and graph to colour."""

    def __init__(self, logs: Sequence[tuple[str, LogSpans]]) -> None:
        moments = [t for _, spans in logs for t in _moments(spans)]
        self.start_ns = min(moments, default=0)
        self.length_ns = max(1, max(moments, default=1) - self.start_ns)
        graphs = sorted({launch.graph for _, spans in logs for launch in spans.launches})
        self._colours = {graph: svg.colour(index) for index, graph in enumerate(graphs)}

    def x(self, time_ns: int) -> float:
        """Place of a time."""
        return _LEFT + (_WIDTH - _LEFT) * (time_ns - self.start_ns) / self.length_ns

    def colour(self, graph: str) -> str:
        """Colour of a graph."""
        return self._colours.get(graph, "#999999")


def _moments(spans: LogSpans) -> list[int]:
    launches, requests = spans.launches[-MOST_LAUNCHES:], spans.requests[-MOST_REQUESTS:]
    ended = [*(launch.ended_ns for launch in launches), *(request.ended_ns for request in requests)]
    ends = [moment for moment in ended if moment is not None]
    return [launch.selected_ns for launch in launches] + [r.arrived_ns for r in requests] + ends


def _caption(name: str, spans: LogSpans) -> str:
    drawn = []
    if len(spans.launches) > MOST_LAUNCHES:
        drawn.append(f"last {MOST_LAUNCHES} of {len(spans.launches)} launches")
    if len(spans.requests) > MOST_REQUESTS:
        drawn.append(f"last {MOST_REQUESTS} of {len(spans.requests)} requests")
    return f"{name}: {', '.join(drawn)}" if drawn else name


def _draw_streams(shapes: list[str], spans: LogSpans, scale: _Scale, y: float) -> float:
    for stream in range(spans.streams):
        shapes.append(svg.text(_LEFT - 6, y + stream * _ROW + 15, f"stream {stream}", anchor="end"))
    for launch in spans.launches[-MOST_LAUNCHES:]:
        end_ns = launch.ended_ns if launch.ended_ns is not None else scale.start_ns + scale.length_ns
        title = f"launch {launch.number} of {launch.graph}: {', '.join(launch.requests[:8])}"
        shapes.append(
            svg.rectangle(
                scale.x(launch.began_ns),
                y + launch.stream * _ROW,
                scale.x(end_ns) - scale.x(launch.began_ns),
                _ROW - 6,
                scale.colour(launch.graph),
                title,
            )
        )
    return y + max(1, spans.streams) * _ROW


def _draw_requests(shapes: list[str], spans: LogSpans, scale: _Scale, y: float) -> float:
    requests = spans.requests[-MOST_REQUESTS:]
    for row, request in enumerate(requests):
        shapes += _request_shapes(request, scale, y + row * (_THIN + 2))
    return y + len(requests) * (_THIN + 2)


def _request_shapes(request: RequestSpan, scale: _Scale, y: float) -> list[str]:
    last_ns = scale.start_ns + scale.length_ns
    ended_ns = request.ended_ns if request.ended_ns is not None else last_ns
    waited_to = request.selected_ns if request.selected_ns is not None else ended_ns
    left, middle = scale.x(request.arrived_ns), scale.x(waited_to)
    title = f"{request.facts.id}, {request.facts.tenant}: {request.outcome or 'going on'}"
    shapes = [svg.rectangle(left, y, middle - left, _THIN, "#cccccc", title)]
    if request.selected_ns is not None:
        shapes.append(
            svg.rectangle(
                middle, y, scale.x(ended_ns) - middle, _THIN, scale.colour(request.facts.graph), title
            )
        )
    deadline_ns = request.facts.deadline_ns
    if deadline_ns is not None and scale.start_ns <= deadline_ns <= last_ns:
        x = scale.x(deadline_ns)
        shapes.append(svg.line(x, y - 1, x, y + _THIN + 1, "#cc0000"))
    return shapes


def perfetto_document(logs: Sequence[tuple[str, LogSpans]]) -> dict[str, Any]:
    """A Chrome trace: a process for each worker, a thread for each stream, a counter for the queue.

    Times are microseconds after the first record. Waits are asynchronous slices of the request.
    """
    start_ns = min((t for _, spans in logs for t in _moments(spans)), default=0)
    events: list[dict[str, Any]] = []
    for process, (name, spans) in enumerate(logs, start=1):
        events.append({"ph": "M", "name": "process_name", "pid": process, "args": {"name": name}})
        for stream in range(spans.streams):
            named = {"name": f"stream {stream}"}
            events.append(
                {"ph": "M", "name": "thread_name", "pid": process, "tid": stream + 1, "args": named}
            )
        for launch in spans.launches:
            events += _launch_events(launch, process, start_ns)
        for number, request in enumerate(spans.requests):
            events += _request_events(request, f"{process}.{number}", process, start_ns)
        for time_ns, depth in spans.depths:
            place = {"pid": process, "tid": 0, "ts": (time_ns - start_ns) / 1000}
            events.append({"ph": "C", "name": "queue depth", "args": {"requests": depth}, **place})
    return {"traceEvents": events, "displayTimeUnit": "ns"}


def _launch_events(launch: LaunchSpan, process: int, start_ns: int) -> list[dict[str, Any]]:
    place: dict[str, Any] = {"pid": process, "tid": launch.stream + 1}
    facts = {"launch": launch.number, "requests": list(launch.requests), "own_us": launch.own_ns / 1000}
    begun = {"name": launch.graph or "launch", "ts": (launch.began_ns - start_ns) / 1000, "args": facts}
    if launch.ended_ns is None:
        return [{"ph": "i", "s": "t", **begun, **place}]
    events = [{"ph": "X", "dur": (launch.ended_ns - launch.began_ns) / 1000, **begun, **place}]
    for moment in launch.boundaries:
        events.append({"ph": "i", "name": "boundary", "s": "t", "ts": (moment - start_ns) / 1000, **place})
    return events


def _request_events(request: RequestSpan, slice_id: str, process: int, start_ns: int) -> list[dict[str, Any]]:
    facts = request.facts
    arguments = {"tenant": facts.tenant, "graph": facts.graph, "outcome": request.outcome}
    slice_ = {"cat": "request", "name": facts.id, "id": slice_id, "pid": process, "tid": 0}
    ended_ns = request.ended_ns if request.ended_ns is not None else request.selected_ns
    events: list[dict[str, Any]] = [
        {"ph": "b", **slice_, "ts": (request.arrived_ns - start_ns) / 1000, "args": arguments}
    ]
    if request.selected_ns is not None:
        moment = (request.selected_ns - start_ns) / 1000
        events.append({"ph": "n", **slice_, "ts": moment, "args": {"event": "chosen"}})
    last_ns = ended_ns if ended_ns is not None else request.arrived_ns
    events.append({"ph": "e", **slice_, "ts": (last_ns - start_ns) / 1000})
    return events
