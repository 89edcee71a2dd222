"""The life of a version at this server: one table, one function that follows it.

found -> preparing -> loading -> warming -> ready -> unloading -> unloaded -> preparing ...
preparing, loading, warming, unloading -> failed -> preparing ...
found, unloaded, failed -> retired
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import VersionState
from plumbline.errors import ValidationError

__all__ = ["IN_PROGRESS", "TRANSITIONS", "VersionEvent", "VersionLife", "VersionTransitionRefused", "apply"]


class VersionEvent(StrEnum):
    """What happens to a version."""

    PREPARE = "prepare"
    PREPARED = "prepared"
    LOADED = "loaded"
    WARMED = "warmed"
    UNLOAD = "unload"
    GONE = "gone"
    FAIL = "fail"
    RETIRE = "retire"


_S, _E = VersionState, VersionEvent

TRANSITIONS: Final[Mapping[tuple[VersionState, VersionEvent], VersionState]] = MappingProxyType(
    {
        (_S.FOUND, _E.PREPARE): _S.PREPARING,
        (_S.UNLOADED, _E.PREPARE): _S.PREPARING,
        (_S.FAILED, _E.PREPARE): _S.PREPARING,
        (_S.PREPARING, _E.PREPARED): _S.LOADING,
        (_S.LOADING, _E.LOADED): _S.WARMING,
        (_S.WARMING, _E.WARMED): _S.READY,
        (_S.READY, _E.UNLOAD): _S.UNLOADING,
        (_S.UNLOADING, _E.GONE): _S.UNLOADED,
        (_S.PREPARING, _E.FAIL): _S.FAILED,
        (_S.LOADING, _E.FAIL): _S.FAILED,
        (_S.WARMING, _E.FAIL): _S.FAILED,
        (_S.UNLOADING, _E.FAIL): _S.FAILED,
        (_S.FOUND, _E.RETIRE): _S.RETIRED,
        (_S.UNLOADED, _E.RETIRE): _S.RETIRED,
        (_S.FAILED, _E.RETIRE): _S.RETIRED,
    }
)
"""Everything that may happen; whatever is not here is refused."""

IN_PROGRESS: Final = frozenset({_S.PREPARING, _S.LOADING, _S.WARMING})
"""States that end in `ready` or `failed` by themselves."""


@dataclass(eq=False, kw_only=True)
class VersionTransitionRefused(ValidationError):
    """An event that has no transition in the state of the version. Nothing was changed."""

    code = "validation.version_transition"
    owner = "serving.models"
    http_status = 409
    template = "{version} is {state}: {event} is not possible"

    version: str
    state: str
    event: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionLife:
    """Where a version is in its life, why, and since when (wall nanoseconds)."""

    ref: VersionRef
    state: VersionState = VersionState.FOUND
    reason: str = ""
    since_wall_ns: int = 0


def apply(life: VersionLife, event: VersionEvent, wall_ns: int, reason: str = "") -> VersionLife:
    """What follows.

    Raises:
        VersionTransitionRefused: the table has no such transition.
    """
    following = TRANSITIONS.get((life.state, event))
    if following is None:
        raise VersionTransitionRefused(version=str(life.ref), state=life.state.value, event=event.value)
    return VersionLife(ref=life.ref, state=following, reason=reason, since_wall_ns=wall_ns)
