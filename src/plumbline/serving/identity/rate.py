"""How often a principal may ask: a moving window for each key (requirement X-64)."""

from __future__ import annotations

import time
from dataclasses import dataclass

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from plumbline.errors import Recoverability, ResourceError
from plumbline.serving.identity.keys import KeyRequestRefused

__all__ = ["DEFAULT_RATE", "RateExceeded", "RateLimiter", "parse_rate"]

DEFAULT_RATE = "1000/second"
MAX_RATE_CHARACTERS = 32
MAX_PER_WINDOW = 100_000


@dataclass(eq=False, kw_only=True)
class RateExceeded(ResourceError):
    """One request more than the key may make. It was not counted, and nothing was done."""

    code = "resource.rate"
    recoverability = Recoverability.TRANSIENT
    owner = "serving.identity"
    http_status = 429
    template = "this key may make {rate} requests; try again in {retry_after_s} s"

    rate: str
    retry_after_s: float


class RateLimiter:
    """Owns the windows of this gateway; each gateway counts for itself."""

    def __init__(self) -> None:
        self._windows = MovingWindowRateLimiter(MemoryStorage())

    def spend(self, who: str, rate: str) -> None:
        """Count one request.

        Raises:
            RateExceeded: `who` has used its rate; says when the oldest request leaves the window.
        """
        item = parse_rate(rate)
        if not self._windows.hit(item, who):
            reset_s = self._windows.get_window_stats(item, who).reset_time
            raise RateExceeded(rate=rate, retry_after_s=round(max(0.001, reset_s - time.time()), 3))


def parse_rate(text: str) -> RateLimitItem:
    """A rate such as `100/second` or `2000/5 minutes`.

    Raises:
        KeyRequestRefused: it is not one.
    """
    try:
        item = parse(text) if len(text) <= MAX_RATE_CHARACTERS and text.isascii() else None
    except ValueError:
        item = None
    if item is None or not 1 <= item.amount <= MAX_PER_WINDOW or item.get_expiry() < 1:
        raise KeyRequestRefused(reason="a rate reads COUNT/UNIT, such as `100/second`, COUNT up to 100000")
    return item
