"""A race check of a launch log: what the streams and events guarantee, against what the graph requires.

It shares nothing with the planner of `dependencies`: it works on the log alone, as sets of predecessors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from plumbline.errors import ExecutionError
from plumbline.execution.launch import ActionKind, LogEntry


@dataclass(eq=False, kw_only=True)
class RaceError(ExecutionError):
    """Nothing in the log makes the consumer start after the producer's end."""

    code = "execution.race"
    owner = "execution"
    template = "segment {consumer!r} may run before {producer!r} is done: {reason}"

    producer: str
    consumer: str
    reason: str


def predecessors(log: Sequence[LogEntry]) -> dict[str, frozenset[str]]:
    """For each launched segment, every segment that is certain to be done before it starts."""
    done_on_stream: dict[str, frozenset[str]] = {}
    done_at_event: dict[str, frozenset[str]] = {}
    found: dict[str, frozenset[str]] = {}
    for entry in log:
        done = done_on_stream.get(entry.stream, frozenset())
        match entry.kind:
            case ActionKind.LAUNCH:
                found[entry.name] = done
                done_on_stream[entry.stream] = done | {entry.name}
            case ActionKind.RECORD:
                done_at_event[entry.name] = done
            case ActionKind.WAIT:
                done_on_stream[entry.stream] = done | done_at_event.get(entry.name, frozenset())
    return found


def verify_happens_before(log: Sequence[LogEntry], required: Iterable[tuple[str, str]]) -> None:
    """Check one run's log against the (producer, consumer) pairs that the graph requires.

    Raises:
        RaceError: for the first pair that nothing orders.
    """
    found = predecessors(log)
    for producer, consumer in required:
        if producer not in found or consumer not in found:
            raise RaceError(producer=producer, consumer=consumer, reason="one of them was never launched")
        if producer not in found[consumer]:
            raise RaceError(producer=producer, consumer=consumer, reason="no stream or event orders them")
