"""`MetricSources`: what is asked, at each exposition, for what it knows anyway."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from plumbline.contracts.models import ModelMetadata, VersionStatus
from plumbline.serving.ports import VersionStatistics, WorkerStatus

__all__ = ["DirectoryFacts", "MetricSources"]


class DirectoryFacts(Protocol):
    """The part of a model directory that metrics read."""

    def statuses(self) -> Sequence[VersionStatus]:
        """Every known version."""

    def metadata(self, model: str, version: str | None = None) -> ModelMetadata:
        """Of a ready version; raises PlumblineError for another."""

    def statistics(self, model: str | None = None, version: str | None = None) -> Sequence[VersionStatistics]:
        """Of every version that has served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSources:
    """All are called on the event loop and never wait.

    Attributes:
        directory: of models.
        workers: statuses of all places.
        alive: requests without an outcome.
        oldest_age_ns: age of the oldest of them.
        resident: resident bytes by process id (None: this process); None where that is not known.
        counters: further counts by name of the thing, then outcome: spans, log lines, exports.
        components: what readiness looks at beside workers and versions: why each does not work, or empty.
        build: labels of the run: version, run, benchmark.
    """

    directory: DirectoryFacts
    workers: Callable[[], Sequence[WorkerStatus]]
    alive: Callable[[], int]
    oldest_age_ns: Callable[[], int]
    resident: Callable[[int | None], int | None]
    counters: Callable[[], Mapping[str, Mapping[str, int]]] = dict
    components: Callable[[], Mapping[str, str]] = dict
    build: Mapping[str, str] = field(default_factory=dict)
