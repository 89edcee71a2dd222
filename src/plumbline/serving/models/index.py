"""The repository index as Triton's model repository extension has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from plumbline.contracts.models import VersionState, VersionStatus

__all__ = ["repository_index"]

_WORDS: Final[Mapping[VersionState, str]] = MappingProxyType(
    {
        VersionState.READY: "READY",
        VersionState.PREPARING: "LOADING",
        VersionState.LOADING: "LOADING",
        VersionState.WARMING: "LOADING",
        VersionState.UNLOADING: "UNLOADING",
    }
)


def repository_index(statuses: Sequence[VersionStatus], *, ready: bool = False) -> list[dict[str, str]]:
    """Rows of name, version, reason, state (`READY`, `LOADING`, `UNLOADING`, `UNAVAILABLE`).

    Args:
        statuses: of every version.
        ready: only those that serve.
    """
    rows = [
        {
            "name": status.ref.model,
            "version": status.ref.version,
            "state": _WORDS.get(status.state, "UNAVAILABLE"),
            "reason": _reason(status),
        }
        for status in statuses
    ]
    return [row for row in rows if not ready or row["state"] == "READY"]


def _reason(status: VersionStatus) -> str:
    if status.state in _WORDS:
        return status.reason
    return f"{status.state.value}: {status.reason}" if status.reason else status.state.value
