"""The segments of one executable on several streams: who runs where, and a context's launches with events.

On one stream the order of the program is enough. On several, each segment is bound to a stream by a list
schedule over estimated costs, and events carry the order that the memory plan requires
(`Manifest.segment_after`).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Self

from plumbline.execution.artifact import Manifest
from plumbline.execution.dependencies import (
    Dependency,
    DependencyPlan,
    DependencyTracker,
    SegmentNode,
    plan_dependencies,
)
from plumbline.execution.executor import Executor
from plumbline.execution.launch import NO_OBSERVER, Launch, LaunchObserver
from plumbline.hardware.device import Device, Stream
from plumbline.hardware.work import NativeLaunch

__all__ = ["SegmentedRun", "assign_streams", "segment_nodes"]


def segment_nodes(manifest: Manifest, streams: int) -> tuple[SegmentNode, ...]:
    """The segments of an executable as a DAG over streams `s0`, `s1`, ...

    Args:
        manifest: of the executable.
        streams: how many streams may be used, at least 1.
    """
    order = manifest.segment_after or ((),) * len(manifest.segments)
    costs = manifest.segment_ns or (1,) * len(manifest.segments)
    after = [tuple(index for index, _ in found) for found in order]
    chosen = assign_streams(costs, after, streams)
    return tuple(
        SegmentNode(
            name=segment_name(index),
            stream=f"s{chosen[index]}",
            after=tuple(Dependency(segment=segment_name(i), tensor=why) for i, why in order[index]),
        )
        for index in range(len(manifest.segments))
    )


def segment_name(index: int) -> str:
    """Name of a segment in plans and logs."""
    return f"segment{index}"


def assign_streams(costs_ns: Sequence[int], after: Sequence[Sequence[int]], streams: int) -> tuple[int, ...]:
    """A stream for each segment: the one where it can start first.

    A list schedule in program order (Graham 1969). Among equals the stream that ran its latest producer wins,
    so that a chain stays where it is and needs no event; then the smaller number.
    """
    free_ns = [0] * max(streams, 1)
    end_ns: list[int] = []
    chosen: list[int] = []
    for cost, needs in zip(costs_ns, after, strict=True):
        ready_ns = max((end_ns[i] for i in needs), default=0)
        home = chosen[max(needs, key=lambda i: (end_ns[i], i))] if needs else 0
        stream = min(range(len(free_ns)), key=lambda s: (max(free_ns[s], ready_ns), s != home, s))
        free_ns[stream] = max(free_ns[stream], ready_ns) + cost
        end_ns.append(free_ns[stream])
        chosen.append(stream)
    return tuple(chosen)


class SegmentedRun:
    """Launches of one context over several streams of one device. Owns the events, not the streams.

    Args:
        device: where events are made.
        nodes: the segments, bound to streams `s0`, `s1`, ...
        launches: native work of each segment of the context, in the same order.
        streams: stream number i is `si`; every stream that a node names is there.
        plan: what is recorded and waited; planned from the nodes when None.
    """

    def __init__(
        self,
        device: Device,
        nodes: Sequence[SegmentNode],
        launches: Sequence[NativeLaunch],
        streams: Sequence[Stream],
        plan: DependencyPlan | None = None,
    ) -> None:
        self.plan = plan_dependencies(nodes) if plan is None else plan
        self._streams = MappingProxyType({f"s{i}": stream for i, stream in enumerate(streams)})
        self._launches = MappingProxyType(
            {
                node.name: Launch(segment=node.name, stream=node.stream, work=work)
                for node, work in zip(nodes, launches, strict=True)
            }
        )
        self._tracker = DependencyTracker(device, self.plan)
        self._executor = Executor()

    def run(self, observer: LaunchObserver = NO_OBSERVER) -> None:
        """Run every segment once and return when all are done.

        Raises:
            LaunchFailedError, DeviceLostError, UpstreamFailedError: as `Executor.run`.
        """
        self._executor.run(self.plan, self._launches, self._streams, self._tracker, observer)

    def close(self) -> None:
        """Return when no thread can touch the context any more, and give the events back."""
        for stream in self._streams.values():
            stream.quiesce()
        self._tracker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
