"""Collectives between 1 to 64 processes of one machine: all-reduce, broadcast, all-gather (L1-08).

Data travels through one shared mapping: a slot for each rank and one for the result. A reduction adds in
rank order, element by element, so every rank gets the same bits, whoever comes first. The arithmetic is
numpy's element-wise add and maximum: this is transfer between processes, not a kernel of the run path.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from plumbline.errors import ValidationError
from plumbline.execution.rendezvous import Barrier, GroupTicket

Array = npt.NDArray[Any]


class Reduction(StrEnum):
    """How all-reduce combines the ranks. A NaN in any rank gives NaN for both."""

    SUM = "sum"
    MAX = "max"


_COMBINE = {Reduction.SUM: np.add, Reduction.MAX: np.maximum}
_DTYPES = ("float32", "float64")


@dataclass(eq=False, kw_only=True)
class CollectiveArrayError(ValidationError):
    """An array cannot take part in a collective."""

    code = "validation.collective_array"
    owner = "execution"
    template = "{operation}: {reason}"

    operation: str
    reason: str


class CollectiveGroup:
    """One rank's membership. Owns the rank's mapping and sockets: use it in a `with` block.

    Every rank calls the same collectives in the same order. A barrier lasts at most `2 * timeout_s`, and a
    collective has two barriers for every `slot_bytes` of data; a lost peer ends it with `PeerLostError` at
    the first barrier that the peer does not reach.
    """

    def __init__(self, ticket: GroupTicket, *, timeout_s: float = 10.0) -> None:
        self.rank = ticket.rank
        self.size = ticket.size
        self._slot_bytes = ticket.slot_bytes
        self._barrier = Barrier(ticket, timeout_s)
        self._mapping = mmap.mmap(ticket.memory, ticket.slot_bytes * (ticket.size + 1))
        os.close(ticket.memory)

    def barrier(self) -> None:
        """Return when every rank is here.

        Raises:
            PeerLostError, CollectiveMismatchError: see `Barrier.meet`.
        """
        self._barrier.meet("barrier")

    def all_reduce(self, array: Array, reduction: Reduction = Reduction.SUM) -> None:
        """Replace `array` by its combination over all ranks, in place.

        Args:
            array: float32 or float64, any shape, contiguous, the same type and shape on every rank.
            reduction: how to combine.

        Raises:
            CollectiveArrayError: the array does not fit these rules.
            PeerLostError, CollectiveMismatchError: see `Barrier.meet`.
        """
        flat = _flat(array, "all_reduce")
        name = f"all_reduce {reduction} {flat.dtype} {flat.size}"
        for part in self._parts(flat):
            self._slot(self.rank, part)[:] = part
            self._barrier.meet(name)
            self._reduce_own_share(part, reduction)
            self._barrier.meet(name)
            part[:] = self._slot(self.size, part)

    def broadcast(self, array: Array, root: int = 0) -> None:
        """Replace `array` on every rank by that of rank `root`, in place.

        Raises:
            As `all_reduce`; CollectiveArrayError also for a root outside the group.
        """
        flat = _flat(array, "broadcast")
        self._verify_root(root)
        name = f"broadcast {root} {flat.dtype} {flat.size}"
        for part in self._parts(flat):
            if self.rank == root:
                self._slot(root, part)[:] = part
            self._barrier.meet(name)
            part[:] = self._slot(root, part)
            self._barrier.meet(name)

    def all_gather(self, array: Array) -> Array:
        """The arrays of all ranks, `[size, *array.shape]`, the same on every rank.

        Raises:
            As `all_reduce`.
        """
        flat = _flat(array, "all_gather")
        name = f"all_gather {flat.dtype} {flat.size}"
        gathered = np.empty((self.size, flat.size), dtype=flat.dtype)
        start = 0
        for part in self._parts(flat):
            self._slot(self.rank, part)[:] = part
            self._barrier.meet(name)
            for rank in range(self.size):
                gathered[rank, start : start + part.size] = self._slot(rank, part)
            self._barrier.meet(name)
            start += part.size
        return gathered.reshape(self.size, *array.shape)

    def _parts(self, flat: Array) -> list[Array]:
        step = self._slot_bytes // flat.itemsize
        return [flat[start : start + step] for start in range(0, flat.size, step)]

    def _slot(self, index: int, like: Array) -> Array:
        offset = index * self._slot_bytes
        return np.frombuffer(self._mapping, dtype=like.dtype, count=like.size, offset=offset)

    def _reduce_own_share(self, part: Array, reduction: Reduction) -> None:
        first, last = (part.size * rank // self.size for rank in (self.rank, self.rank + 1))
        result = self._slot(self.size, part)[first:last]
        result[:] = self._slot(0, part)[first:last]
        for rank in range(1, self.size):
            _COMBINE[reduction](result, self._slot(rank, part)[first:last], out=result)

    def _verify_root(self, root: int) -> None:
        if not 0 <= root < self.size:
            raise CollectiveArrayError(operation="broadcast", reason=f"there is no rank {root}")

    def close(self) -> None:
        """Leave the group; ranks that still wait for this one see it as lost."""
        self._barrier.close()
        self._mapping.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _flat(array: Array, operation: str) -> Array:
    if array.dtype.name not in _DTYPES:
        raise CollectiveArrayError(operation=operation, reason=f"{array.dtype} is not float32 or float64")
    if not array.flags.c_contiguous or not array.flags.writeable:
        raise CollectiveArrayError(operation=operation, reason="the array must be contiguous and writable")
    return array.reshape(-1)
