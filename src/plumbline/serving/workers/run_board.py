"""Which runs of classes go on in a worker, and since when: written by the worker, read without asking it.

A class computes in Python for as long as it likes, and the engine beside it goes on, so the engine's steps
say nothing of the class. Each of its runs takes a seat of eight int64 instead:

    began_ns (0: free) | limit_ns (0: the reader's) | requests | digests of the ids of the first five
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, MutableSequence, Sequence
from dataclasses import dataclass
from time import monotonic_ns

__all__ = ["Overrun", "RunSeats", "find_overrun", "request_digest"]

_WORDS = 8
_NAMED = 5
_NOWHERE = -1


def request_digest(request: str) -> int:
    """What stands for an id on the board: 63 bits of its hash."""
    return int.from_bytes(hashlib.blake2b(request.encode(), digest_size=8).digest(), "little") >> 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrun:
    """A run that goes on for longer than it may.

    Attributes:
        ran_ns: so far.
        limit_ns: that it passed.
        requests: how many it runs.
        digests: `request_digest` of them, at most five.
    """

    ran_ns: int
    limit_ns: int
    requests: int
    digests: tuple[int, ...]

    @property
    def reason(self) -> str:
        """In words."""
        return f"a run went on for {self.ran_ns / 1e9:.3f} s, at most {self.limit_ns / 1e9:g} s"


class RunSeats:
    """Implements `engine.session.RunBoard`. Owner of the seats; thread-safe.

    More runs at one time than there are seats are not shown, and so not held against a limit.

    Args:
        words: int64 for the seats, all 0.
    """

    def __init__(self, words: MutableSequence[int] | memoryview) -> None:
        self._words = words
        self._lock = threading.Lock()
        self._free = [seat * _WORDS for seat in reversed(range(len(words) // _WORDS))]

    def begin(self, requests: Sequence[str], limit_ns: int) -> int:
        """Take a seat for a run that begins now."""
        with self._lock:
            seat = self._free.pop() if self._free else _NOWHERE
        if seat >= 0:
            words = self._words
            named = [request_digest(request) for request in requests[:_NAMED]]
            values = (limit_ns, len(requests), *named)
            for offset, value in enumerate(values, start=1):
                words[seat + offset] = value
            words[seat] = monotonic_ns()
        return seat

    def end(self, seat: int) -> None:
        """Give the seat back."""
        if seat >= 0:
            self._words[seat] = 0
            with self._lock:
                self._free.append(seat)


def find_overrun(words: Sequence[int] | memoryview, now_ns: int, limit_ns: int) -> Overrun | None:
    """The run that is longest over its limit, or None.

    Args:
        words: of the seats.
        now_ns: on the monotonic clock of the machine.
        limit_ns: of a run that states none.
    """
    found = [_look(words, seat, now_ns, limit_ns) for seat in _taken(words)]
    over = [run for run in found if run.ran_ns > run.limit_ns]
    return max(over, key=lambda run: run.ran_ns - run.limit_ns, default=None)


def _taken(words: Sequence[int] | memoryview) -> Iterator[int]:
    return (seat for seat in range(0, len(words) - _WORDS + 1, _WORDS) if words[seat] > 0)


def _look(words: Sequence[int] | memoryview, seat: int, now_ns: int, limit_ns: int) -> Overrun:
    began_ns, own_limit_ns, requests = words[seat], words[seat + 1], words[seat + 2]
    named = range(seat + 3, seat + 3 + min(max(requests, 0), _NAMED))
    return Overrun(
        ran_ns=now_ns - began_ns,
        limit_ns=own_limit_ns if own_limit_ns > 0 else limit_ns,
        requests=requests,
        digests=tuple(words[word] for word in named),
    )
