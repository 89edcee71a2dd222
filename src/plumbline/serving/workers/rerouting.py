"""What the decision log of the gateway says of a call whose worker died."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from plumbline.contracts.records import Routing
from plumbline.serving.workers.choice import WorkerChoice
from plumbline.serving.workers.journal import Entry
from plumbline.serving.workers.place import WorkerPlace

__all__ = ["OnRoute", "nobody_is_routed", "sent_again", "worker_lost"]

OnRoute = Callable[[Routing], None]
"""Takes a record for every accepted call that loses its worker, or that is sent again."""


def nobody_is_routed(record: Routing) -> None:
    """Nobody writes it down."""


def worker_lost(entry: Entry, choice: WorkerChoice, place: WorkerPlace, reason: str) -> Routing:
    """The call waits, or is failed next. Rejected are the workers that do not take it now, each with what it
    waits for there.
    """
    entry.lost_ns = time.monotonic_ns()
    fields: dict[str, Any] = {"lost": place.name, "generation": place.generation, "because": reason}
    return _record(entry, choice, "", "worker_lost", fields)


def sent_again(entry: Entry, choice: WorkerChoice, place: WorkerPlace) -> Routing:
    """It goes to another worker, or to the replacement of the one that died."""
    fields: dict[str, Any] = {
        "generation": place.generation,
        "waited_ns": time.monotonic_ns() - entry.lost_ns,
    }
    return _record(entry, choice, place.name, "sent_again", fields)


def _record(entry: Entry, choice: WorkerChoice, chosen: str, reason: str, fields: dict[str, Any]) -> Routing:
    version = str(entry.version.spec.ref)
    unfit = () if chosen else choice.unfit(entry.version)
    rejected = tuple((f"{version}/{name}", why) for name, why in unfit)
    target = f"{version}/{chosen}" if chosen else ""
    candidates = tuple(name for name, _ in rejected) + ((target,) if target else ())
    now_ns = time.monotonic_ns()
    call = entry.call
    return Routing(now_ns, call.id, call.model, candidates, rejected, target, reason, fields)
