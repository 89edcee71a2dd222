"""`RequestIds`: ids for requests whose clients give none (requirement L4-03)."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable

from plumbline.contracts.requests import RequestId

__all__ = ["RequestIds"]


class RequestIds:
    """Makes ids: a prefix drawn once, then a count. No two of one maker are equal, whatever thread asks.

    An id that a client gave to a request in flight is passed over: a client that guesses the next ones takes
    them from nobody.

    Args:
        door: mark that keeps the ids of this door apart from those of others; no hexadecimal digit.
        is_taken: whether a request in flight has an id.
    """

    def __init__(self, door: str = "", is_taken: Callable[[RequestId], bool] = lambda _: False) -> None:
        self._prefix = f"{secrets.token_hex(4)}-{door}"
        self._count = itertools.count(1)
        self._is_taken = is_taken

    def make(self) -> RequestId:
        """An id that no request has."""
        made = RequestId(f"{self._prefix}{next(self._count):x}")
        while self._is_taken(made):
            made = RequestId(f"{self._prefix}{next(self._count):x}")
        return made
