"""Records of a partitioned build and of its runs, as plain data (requirements L1-06, L1-07, L2-06)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from plumbline.execution.backend import Specialisation

__all__ = [
    "HOST",
    "BuildRecord",
    "Candidate",
    "CopyKind",
    "Dispatch",
    "MemoryCopy",
    "PartSummary",
    "Placement",
    "RunRecord",
]

HOST = "host"
"""The memory that callers give and take arrays in."""
RECORD_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A backend that was asked about a node; `refusal` is why it cannot run it, or None."""

    backend: str
    refusal: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where one node runs, and why not elsewhere."""

    node: str
    operation: str
    backend: str
    forced: bool
    reason: str
    candidates: tuple[Candidate, ...]


class CopyKind(StrEnum):
    """Why bytes go from one memory to another."""

    INPUT = "input"
    BOUNDARY = "boundary"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCopy:
    """One tensor from one memory to another, one of them the host. In plans the size is at the bounds."""

    tensor: str
    source: str
    target: str
    size_bytes: int
    kind: CopyKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """The backend that runs a part, of those that the part is compiled for."""

    part: str
    backend: str
    candidates: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSummary:
    """A part by names."""

    name: str
    backend: str
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRecord:
    """Everything that was decided when a graph was split.

    Attributes:
        graph_digest: of the graph.
        preference: names of the allowed backends, first choice first.
        backends: what each offers, its limits and failure modes (`describe_backend`).
        placements: of every node, in order.
        parts: in the order in which they run.
        copies: between memories, for the dispatch below, with every symbol at its bound.
        specialisation: static: part -> what its code is made for, one entry for each backend that it is
            compiled for.
        dispatch: dynamic: the backend of each part where a run does not say otherwise.
    """

    graph_digest: str
    preference: tuple[str, ...]
    backends: tuple[Mapping[str, Any], ...]
    placements: tuple[Placement, ...]
    parts: tuple[PartSummary, ...]
    copies: tuple[MemoryCopy, ...]
    specialisation: Mapping[str, tuple[Specialisation, ...]]
    dispatch: tuple[Dispatch, ...]

    @property
    def boundary_bytes(self) -> int:
        """Bytes copied between parts, without inputs and outputs of the graph."""
        return sum(c.size_bytes for c in self.copies if c.kind is CopyKind.BOUNDARY)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as `--explain` prints it."""
        return {
            "schema_version": RECORD_VERSION,
            "graph": self.graph_digest,
            "preference": list(self.preference),
            "backends": [dict(b) for b in self.backends],
            "placements": [asdict(p) for p in self.placements],
            "parts": [asdict(p) for p in self.parts],
            "copies": [asdict(c) for c in self.copies],
            "boundary_bytes": self.boundary_bytes,
            "specialisation": {part: [asdict(s) for s in made] for part, made in self.specialisation.items()},
            "dispatch": [asdict(d) for d in self.dispatch],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What was decided and copied in one run; sizes are real."""

    dispatch: tuple[Dispatch, ...]
    copies: tuple[MemoryCopy, ...]
    symbols: Mapping[str, int]

    @property
    def boundary_copies(self) -> tuple[MemoryCopy, ...]:
        """Copies between parts, without inputs and outputs of the graph."""
        return tuple(c for c in self.copies if c.kind is CopyKind.BOUNDARY)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "schema_version": RECORD_VERSION,
            "dispatch": [asdict(d) for d in self.dispatch],
            "copies": [asdict(c) for c in self.copies],
            "copied_bytes": sum(c.size_bytes for c in self.copies),
            "symbols": dict(self.symbols),
        }
