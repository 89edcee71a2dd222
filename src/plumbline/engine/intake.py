"""`Intake`: the one thing that submitting threads and the orchestration loop share.

Submitters append under a lock that nobody holds for longer than an append; the loop takes without it. The
loop sleeps on a doorbell with an exact timeout.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from plumbline.engine.doorbell import Doorbell, LockDoorbell
from plumbline.engine.loading import LoadedVersion
from plumbline.engine.outcomes import DuplicateRequest, EngineStopped, QueueFull, VersionNotLoaded
from plumbline.engine.requests import AcceptedRequest

__all__ = ["RETRY_AFTER_S", "Intake"]

RETRY_AFTER_S = 0.05
"""When a refused caller may ask again: a queue has then usually moved on."""

Message = tuple[Callable[[Any], None], Any]


class Intake:
    """Bounded intake of requests, and an unbounded one of the engine's own messages (each lane has at most
    one on its way, each live request at most one cancellation).

    Args:
        capacity: most requests that may be accepted and not launched.
        doorbell: on which the loop sleeps; owned by this intake from now on.
    """

    def __init__(self, capacity: int, doorbell: Doorbell | None = None) -> None:
        self.capacity = capacity
        self._doorbell = doorbell or LockDoorbell()
        self.alive: dict[str, AcceptedRequest] = {}
        self._messages: deque[Message] = deque()
        self._lock = threading.Lock()
        self._open = False
        self._accepted = 0
        self._left = 0

    # -- any thread ------------------------------------------------------------------------------------------

    def offer(self, request: AcceptedRequest, arrive: Callable[[AcceptedRequest], None]) -> None:
        """Accept a request, or refuse it at once.

        Raises:
            EngineStopped: the engine takes nothing now.
            VersionNotLoaded: its version is being unloaded.
            DuplicateRequest: one of this id is alive.
            QueueFull: as many wait as may.
        """
        call = request.call
        with self._lock:
            if not self._open:
                raise EngineStopped(retry_after_s=RETRY_AFTER_S)
            if not request.version.open:
                raise VersionNotLoaded(version=str(request.version.ref), loaded="it is being unloaded")
            if call.id in self.alive:
                raise DuplicateRequest(request_id=call.id, state="alive")
            if self.waiting >= self.capacity:
                raise QueueFull(depth=self.capacity, retry_after_s=RETRY_AFTER_S)
            self._accepted += 1
            request.version.accepted += 1
            self.alive[call.id] = request
            self._messages.append((arrive, request))
        self._doorbell.ring()

    def mark_cancelled(self, request_id: str) -> bool:
        """Say that nobody wants a request any more; False when it is not alive."""
        with self._lock:
            request = self.alive.get(request_id)
            if request is not None:
                request.cancelled = True
        return request is not None

    def post(self, handle: Callable[[Any], None], argument: Any) -> None:
        """Let the loop call `handle(argument)`, in order with everything else."""
        self._messages.append((handle, argument))
        self._doorbell.ring()

    def open(self) -> None:
        """Take requests from now on."""
        with self._lock:
            self._open = True

    def shut(self) -> None:
        """Take no more; nothing comes in once this has returned."""
        with self._lock:
            self._open = False

    def shut_version(self, version: LoadedVersion) -> None:
        """Take no more requests of a version."""
        with self._lock:
            version.open = False

    @property
    def waiting(self) -> int:
        """Requests accepted and not launched."""
        return self._accepted - self._left

    # -- orchestration loop ----------------------------------------------------------------------------------

    def take(self) -> Message:
        """The oldest message; there is one."""
        return self._messages.popleft()

    @property
    def messages(self) -> int:
        """How many messages there are."""
        return len(self._messages)

    def collect(self) -> None:
        """Bring in what has arrived from outside the process."""
        self._doorbell.collect()

    def sleep(self, timeout_s: float) -> None:
        """Wait until a message comes or something arrives, or the time is over."""
        if timeout_s > 0.0:
            self._doorbell.sleep(timeout_s)

    def close(self) -> None:
        """The loop has ended."""
        self._doorbell.close()

    def left(self) -> None:
        """A request does not wait any more: it was launched for the last time, or ended before that."""
        self._left += 1
