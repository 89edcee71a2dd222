"""Memory of branches that may run at the same time.

A plan for one stream lets a buffer follow another as soon as the order of steps allows. On several streams
such reuse would order branches that share no data. So every buffer is kept, also, while any step runs that is
neither before nor after one of its own: then buffers share bytes only where data already orders their steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from plumbline.compiler.planning.lifetimes import Buffer, StepAccess

__all__ = ["widen_for_streams"]


def widen_for_streams(
    buffers: Sequence[Buffer],
    buffer_of: Mapping[str, str],
    steps: Sequence[StepAccess],
    views: Mapping[str, str],
) -> tuple[Buffer, ...]:
    """Buffers with intervals that cover every step which may run beside one of theirs.

    Args:
        buffers: of values and of workspace (`<step>/workspace`), for one stream.
        buffer_of: value -> buffer that holds it.
        steps: the program, in execution order.
        views: value -> base, for values that no step writes.
    """
    reach = [_reach(index, mask) for index, mask in enumerate(_concurrent(steps, views))]
    users: dict[str, list[int]] = {}
    for index, step in enumerate(steps):
        users.setdefault(f"{step.name}/workspace", []).append(index)
        for value in (*step.reads, *step.writes):
            users.setdefault(buffer_of.get(value, value), []).append(index)
    return tuple(
        replace(
            buffer,
            first=min([buffer.first, *(reach[i][0] for i in users.get(buffer.name, ()))]),
            last=max([buffer.last, *(reach[i][1] for i in users.get(buffer.name, ()))]),
        )
        for buffer in buffers
    )


def _concurrent(steps: Sequence[StepAccess], views: Mapping[str, str]) -> list[int]:
    """For each step, a bit set of the steps that no data orders against it."""
    writer = {value: index for index, step in enumerate(steps) for value in step.writes}
    direct = [{writer[b] for b in (_base(v, views) for v in step.reads) if b in writer} for step in steps]
    before, after = [0] * len(steps), [0] * len(steps)
    for index, producers in enumerate(direct):
        for producer in producers:
            before[index] |= before[producer] | 1 << producer
    for index in reversed(range(len(steps))):
        for producer in direct[index]:
            after[producer] |= after[index] | 1 << index
    everything = (1 << len(steps)) - 1
    return [everything & ~(b | a | 1 << i) for i, (b, a) in enumerate(zip(before, after, strict=True))]


def _base(value: str, views: Mapping[str, str]) -> str:
    while value in views:
        value = views[value]
    return value


def _reach(index: int, mask: int) -> tuple[int, int]:
    """First and last step of a bit set and of the step itself."""
    if not mask:
        return index, index
    return min(index, (mask & -mask).bit_length() - 1), max(index, mask.bit_length() - 1)
