"""`BackgroundQueue`: a bounded queue to a thread of its own; whoever offers never waits."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["BackgroundQueue"]

T = TypeVar("T")


class BackgroundQueue(Generic[T]):
    """Owner of the queue and of one daemon thread, which a consumer that hangs keeps to itself.

    Attributes:
        dropped: items that found the queue full.
        failed: items whose consumer raised.
        done: items that were consumed.

    Args:
        consume: takes a batch on the thread. What it raises is counted.
        name: of the thread.
        limit: most items that wait.
        batch: most items at once.
        interval_s: longest that an item waits for its batch.
    """

    def __init__(
        self,
        consume: Callable[[Sequence[T]], None],
        *,
        name: str,
        limit: int = 4096,
        batch: int = 256,
        interval_s: float = 0.25,
    ) -> None:
        self._consume, self._limit, self._batch, self._interval_s = consume, limit, batch, interval_s
        self._items: deque[T] = deque()
        self._bell = threading.Event()
        self._closing = False
        self.dropped = self.failed = self.done = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Items that wait."""
        return len(self._items)

    def offer(self, item: T, *, now: bool = False) -> bool:
        """Queue an item; False when it was dropped. With `now` the thread is woken for it."""
        if len(self._items) >= self._limit or self._closing:
            self.dropped += 1
            return False
        self._items.append(item)
        if now:
            self._bell.set()
        return True

    def close(self, timeout_s: float) -> bool:
        """Take nothing more, and wait for what was taken; False when that took too long. What is left then is
        counted as dropped.
        """
        self._closing = True
        self._bell.set()
        self._thread.join(timeout_s)
        ended = not self._thread.is_alive()
        self.dropped += len(self._items)
        self._items.clear()
        return ended

    def _run(self) -> None:
        while True:
            self._bell.wait(self._interval_s)
            self._bell.clear()
            while batch := self._take():
                try:
                    self._consume(batch)
                    self.done += len(batch)
                except Exception:  # noqa: BLE001 - whatever a consumer does, serving goes on; it is counted
                    self.failed += len(batch)
            if self._closing:
                return

    def _take(self) -> list[T]:
        batch: list[T] = []
        while len(batch) < self._batch:
            try:
                batch.append(self._items.popleft())
            except IndexError:
                break
        return batch
