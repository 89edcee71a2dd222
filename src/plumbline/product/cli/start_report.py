"""What `plumb serve` says when its start is over: how the versions do, in a bounded number of lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from plumbline.contracts.models import VersionState, VersionStatus

__all__ = ["start_lines"]

_MOST_LINES: Final = 20
_MOST_REASONS: Final = 3


def start_lines(statuses: Sequence[VersionStatus], is_ready: bool, reasons: Sequence[str]) -> Iterator[str]:
    """Lines for an operator: a version each, those in trouble first and those that nobody wanted last, and
    whether the server is ready. What is left out is counted, with where to see it.

    Args:
        statuses: of every version.
        is_ready: of the server.
        reasons: why it is not.
    """
    ranked = sorted(statuses, key=_rank)
    for status in ranked[:_MOST_LINES]:
        yield f"  {status.ref}  {status.state}  {status.reason}".rstrip()
    if len(ranked) > _MOST_LINES:
        yield f"  ... and {len(ranked) - _MOST_LINES} more, see `plumb models ls`"
    if is_ready:
        yield "ready"
        return
    more = len(reasons) - _MOST_REASONS
    said = "; ".join(reasons[:_MOST_REASONS])
    yield f"not ready: {said}" + (f"; and {more} more" if more > 0 else "")


def _rank(status: VersionStatus) -> int:
    if status.state is VersionState.FAILED:
        return 0
    return 2 if status.state in (VersionState.FOUND, VersionState.RETIRED) and not status.reason else 1
