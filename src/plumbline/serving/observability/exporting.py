"""`MetricsExporter`, the port for metrics of another kind, and what keeps a bad one apart (X-72)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

from plumbline.errors import ValidationError
from plumbline.serving.observability.background import BackgroundQueue
from plumbline.serving.observability.exposition import MetricsSnapshot

__all__ = ["ExporterRefused", "ExporterSeat", "MetricsExporter", "load_exporter"]


@dataclass(eq=False, kw_only=True)
class ExporterRefused(ValidationError):
    """A metrics exporter that cannot be made."""

    code = "validation.metrics_exporter"
    owner = "serving.observability"
    template = "metrics exporter {name!r}: {reason}"

    name: str
    reason: str


class MetricsExporter(Protocol):
    """Takes metrics somewhere. A class that is made without arguments.

    `plumbline.testing.exporters.MetricsExporterConformance` holds one to this.
    """

    def export_metrics(self, snapshot: MetricsSnapshot) -> None:
        """Take a snapshot. Called on a thread of its own, one at a time; it may wait and may raise: that is
        counted, and the next snapshot comes all the same.
        """


def load_exporter(name: str) -> MetricsExporter:
    """Make the exporter that `module:Class` names.

    Raises:
        ExporterRefused: there is none, or it cannot be made.
    """
    module_name, _, class_name = name.partition(":")
    if not module_name or not class_name:
        raise ExporterRefused(name=name[:120], reason="expected module:Class")
    try:
        found = getattr(import_module(module_name), class_name)
        exporter: MetricsExporter = found()
    except Exception as error:
        raise ExporterRefused(name=name[:120], reason=f"it raised {type(error).__name__}") from error
    if not callable(getattr(exporter, "export_metrics", None)):
        raise ExporterRefused(name=name[:120], reason="it has no method export_metrics")
    return exporter


class ExporterSeat:
    """One exporter on a thread of its own. While it is busy, further snapshots are dropped and counted."""

    def __init__(self, name: str, exporter: MetricsExporter) -> None:
        self.name, self._exporter = name, exporter
        self._queue: BackgroundQueue[MetricsSnapshot] = BackgroundQueue(
            self._export, name="metrics exporter", limit=1, batch=1, interval_s=1.0
        )

    def offer(self, snapshot: MetricsSnapshot) -> None:
        """Export it, soon. Never waits."""
        self._queue.offer(snapshot, now=True)

    def counts(self) -> Mapping[str, int]:
        """Snapshots by what became of them."""
        return {"done": self._queue.done, "failed": self._queue.failed, "dropped": self._queue.dropped}

    def close(self, timeout_s: float) -> bool:
        """Finish, within the time; False when the exporter did not come back."""
        return self._queue.close(timeout_s)

    def _export(self, snapshots: Sequence[MetricsSnapshot]) -> None:
        for snapshot in snapshots:
            self._exporter.export_metrics(snapshot)
