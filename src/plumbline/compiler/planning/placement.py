"""Address heuristics: where buffers go when the order in which they are placed is given.

Sizes and addresses count alignment units here, not bytes. Greedy by size and by breadth follow Pisarchyk and
Lee, "Efficient memory management for deep neural net inference" (2020, section 5), which we extend with best
fit, more sort keys, a placement limit and a search that moves the buffer that failed to the front.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Extent", "Placed", "find_conflicts", "improve", "orders", "place", "sweep"]


@dataclass(frozen=True, slots=True)
class Extent:
    """A buffer to place: size in alignment units, inclusive interval of steps."""

    units: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Placed:
    """Address of every extent and the peak, in units; `work` counts the neighbours looked at."""

    addresses: tuple[int, ...]
    peak: int
    work: int


def sweep(extents: Sequence[Extent]) -> Placed:
    """First fit in order of time: the allocator that a run would be, known in advance.

    O(n log n) apart from the walk over the holes.
    """
    addresses, peak, work = [0] * len(extents), 0, 0
    holes: list[tuple[int, int]] = [(0, sum(extent.units for extent in extents))]
    dying: list[tuple[int, int]] = []
    for at in sorted(range(len(extents)), key=lambda i: (extents[i].first, -extents[i].units, i)):
        extent = extents[at]
        while dying and dying[0][0] < extent.first:
            _, dead = heapq.heappop(dying)
            work += _release(holes, addresses[dead], addresses[dead] + extents[dead].units)
        if extent.units == 0:
            continue
        hole = next(i for i, (low, high) in enumerate(holes) if high - low >= extent.units)
        low, high = holes[hole]
        holes[hole : hole + 1] = [(low + extent.units, high)] if high - low > extent.units else []
        addresses[at], peak, work = low, max(peak, low + extent.units), work + hole + 1
        heapq.heappush(dying, (extent.last, at))
    return Placed(tuple(addresses), peak, work)


def _release(holes: list[tuple[int, int]], low: int, high: int) -> int:
    """Gives bytes back, joined with the holes beside them; returns the work done."""
    at, right = 0, len(holes)
    while at < right:
        middle = (at + right) // 2
        at, right = (middle + 1, right) if holes[middle][0] < low else (at, middle)
    begin, end = at, at
    if at and holes[at - 1][1] == low:
        begin, low = at - 1, holes[at - 1][0]
    if at < len(holes) and holes[at][0] == high:
        end, high = at + 1, holes[at][1]
    holes[begin:end] = [(low, high)]
    return 1


def find_conflicts(extents: Sequence[Extent], limit: int) -> list[list[int]] | None:
    """For each extent those that are live with it, or None when there are more than `limit` pairs."""
    neighbours: list[list[int]] = [[] for _ in extents]
    alive: list[int] = []
    pairs = 0
    for at in sorted((i for i, e in enumerate(extents) if e.units), key=lambda i: (extents[i].first, i)):
        first = extents[at].first
        alive = [other for other in alive if extents[other].last >= first]
        pairs += len(alive)
        if pairs > limit:
            return None
        for other in alive:
            neighbours[other].append(at)
        neighbours[at] += alive
        alive.append(at)
    return neighbours


def place(
    extents: Sequence[Extent],
    neighbours: Sequence[Sequence[int]],
    order: Sequence[int],
    *,
    best_fit: bool = False,
) -> Placed:
    """Puts each extent of `order` at the lowest free address (or into the tightest gap, with `best_fit`)."""
    addresses = [-1] * len(extents)
    peak = work = 0
    for at in order:
        units = extents[at].units
        taken = sorted((addresses[j], extents[j].units) for j in neighbours[at] if addresses[j] >= 0)
        work += len(neighbours[at]) + 1
        floor, chosen, tightest = 0, -1, 0
        for address, length in taken:
            gap = address - floor
            if gap >= units and (chosen < 0 or gap < tightest):
                chosen, tightest = floor, gap
                if not best_fit:
                    break
            floor = max(floor, address + length)
        addresses[at] = chosen if chosen >= 0 else floor
        peak = max(peak, addresses[at] + units)
    return Placed(tuple(max(address, 0) for address in addresses), peak, work)


def orders(extents: Sequence[Extent]) -> Iterator[tuple[str, list[int]]]:
    """Named placement orders, the most promising first; every tie falls to the position."""
    keys: dict[str, Callable[[Extent], tuple[int, ...]]] = {
        "size": lambda e: (-e.units, -(e.last - e.first), e.first),
        "area": lambda e: (-e.units * (e.last - e.first + 1), -e.units, e.first),
        "length": lambda e: (-(e.last - e.first), -e.units, e.first),
        "start": lambda e: (e.first, -e.units, -e.last),
    }
    yield "size", _sorted(extents, keys["size"])
    yield "breadth", _by_breadth(extents)
    for name in ("area", "length", "start"):
        yield name, _sorted(extents, keys[name])


def _sorted(extents: Sequence[Extent], key: Callable[[Extent], tuple[int, ...]]) -> list[int]:
    return sorted((i for i, e in enumerate(extents) if e.units), key=lambda i: (*key(extents[i]), i))


def _by_breadth(extents: Sequence[Extent]) -> list[int]:
    """Steps by falling live bytes; in each step the extents not yet taken, by falling size."""
    change = [0] * (max((e.last for e in extents), default=-1) + 2)
    for extent in extents:
        change[extent.first] += extent.units
        change[extent.last + 1] -= extent.units
    breadth, live = [], 0
    for step in range(len(change) - 1):
        live += change[step]
        breadth.append(live)
    rank = [0] * len(breadth)
    for position, step in enumerate(sorted(range(len(breadth)), key=lambda s: (-breadth[s], s))):
        rank[step] = position
    best = _range_minimum(rank)
    return _sorted(extents, lambda e: (best(e.first, e.last), -e.units))


def _range_minimum(values: Sequence[int]) -> Callable[[int, int], int]:
    """A function for the minimum over an inclusive range: sparse table, O(n log n) once, then O(1)."""
    table = [list(values)]
    while 2 * (1 << (len(table) - 1)) <= len(values):
        half, row = 1 << (len(table) - 1), table[-1]
        table.append([min(row[i], row[i + half]) for i in range(len(row) - half)])

    def minimum(first: int, last: int) -> int:
        level = (last - first + 1).bit_length() - 1
        return min(table[level][first], table[level][last - (1 << level) + 1])

    return minimum


def improve(
    extents: Sequence[Extent],
    neighbours: Sequence[Sequence[int]],
    order: Sequence[int],
    best: Placed,
    *,
    goal: int,
    work: int,
) -> Placed:
    """Searches for a lower peak by eviction, until `goal` is reached or `work` is used up.

    The limit is the goal first, then halfway between what failed and the best. An extent that ends above it
    evicts its neighbours, takes the lowest address and lets them look for another. No clock and no
    randomness, so the result is always the same.
    """
    spent, low = 0, goal
    while low < best.peak and spent < work:
        limit = (low + best.peak - 1) // 2 if spent else goal
        found, used = _place_by_eviction(extents, neighbours, order, limit, (work - spent + 1) // 2)
        spent += used
        if found is None:
            low = limit + 1
        else:
            best = found
    return best


def _place_by_eviction(
    extents: Sequence[Extent],
    neighbours: Sequence[Sequence[int]],
    order: Sequence[int],
    limit: int,
    work: int,
) -> tuple[Placed | None, int]:
    """A placement under `limit`, or None, with the work done. An extent gains rank with every failure."""
    rank = {at: position for position, at in enumerate(order)}
    failures, addresses, spent = [0] * len(extents), [-1] * len(extents), 0
    queue = [(0, position, at) for position, at in enumerate(order)]
    while queue and spent < work:
        _, _, at = heapq.heappop(queue)
        units = extents[at].units
        spent += len(neighbours[at]) + 1
        taken = sorted((addresses[j], extents[j].units) for j in neighbours[at] if addresses[j] >= 0)
        addresses[at] = _lowest_gap(taken, units)
        if addresses[at] + units <= limit:
            continue
        failures[at] += 1
        evicted = [j for j in neighbours[at] if addresses[j] >= 0 and failures[j] < failures[at]]
        for other in evicted:
            addresses[other] = -1
            heapq.heappush(queue, (-failures[other], rank[other], other))
        addresses[at] = -1
        heapq.heappush(queue, (-failures[at], rank[at], at))
    if queue:
        return None, spent
    peak = max((addresses[at] + extents[at].units for at in order), default=0)
    return Placed(tuple(max(address, 0) for address in addresses), peak, spent), spent


def _lowest_gap(taken: Sequence[tuple[int, int]], units: int) -> int:
    floor = 0
    for address, length in taken:
        if address - floor >= units:
            break
        floor = max(floor, address + length)
    return floor
