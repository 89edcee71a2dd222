"""The suite of `MetricsExporter` (requirement X-72): what every exporter of metrics must bear."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import pytest

from plumbline.serving.observability.exporting import ExporterSeat, MetricsExporter
from plumbline.serving.observability.exposition import MetricFamily, MetricSample, MetricsSnapshot

__all__ = ["MetricsExporterConformance", "example_snapshot"]


def example_snapshot() -> MetricsSnapshot:
    """A snapshot of every kind of family, with an empty one and a label that needs care."""
    return MetricsSnapshot(
        wall_ns=1_700_000_000_000_000_000,
        families=(
            _family("plumbline_requests_arrived", "counter", ("_total", {"protocol": "rest"}, 3.0)),
            _family("plumbline_requests_alive", "gauge", ("", {}, 0.0)),
            _family(
                "plumbline_version_share_ratio", "gauge", ("", {"model": 'a"b\\c\n', "version": "1"}, 0.5)
            ),
            _family(
                "plumbline_queue_duration_seconds",
                "histogram",
                ("_bucket", {"le": "0.001"}, 1.0),
                ("_bucket", {"le": "+Inf"}, 2.0),
                ("_count", {}, 2.0),
                ("_sum", {}, 0.5),
            ),
            _family("plumbline_request_errors", "counter"),
        ),
    )


class MetricsExporterConformance(ABC):
    """Inherit it and give `make_exporter`."""

    @abstractmethod
    def make_exporter(self, folder: Path) -> MetricsExporter:
        """The exporter under test, which may write into an empty folder."""

    @pytest.fixture
    def exporter(self, tmp_path: Path) -> Callable[[], MetricsExporter]:
        """Makes the exporter under test."""
        return lambda: self.make_exporter(tmp_path)

    def test_it_takes_a_snapshot_of_every_kind(self, exporter: Callable[[], MetricsExporter]) -> None:
        """X-72."""
        exporter().export_metrics(example_snapshot())

    def test_it_takes_one_after_the_other(self, exporter: Callable[[], MetricsExporter]) -> None:
        """X-72: also an empty one."""
        made = exporter()
        made.export_metrics(MetricsSnapshot(wall_ns=1, families=()))
        made.export_metrics(example_snapshot())
        made.export_metrics(example_snapshot())

    def test_it_does_so_in_its_seat_within_the_time(self, exporter: Callable[[], MetricsExporter]) -> None:
        """X-72: on a thread of its own, as a server calls it."""
        seat = ExporterSeat("under test", exporter())
        seat.offer(example_snapshot())
        assert seat.close(10.0)
        assert dict(seat.counts()) == {"done": 1, "failed": 0, "dropped": 0}


def _family(name: str, kind: str, *samples: tuple[str, dict[str, str], float]) -> MetricFamily:
    return MetricFamily(
        name=name,
        kind=kind,
        text="An example.",
        samples=tuple(
            MetricSample(name=name + suffix, labels=labels, value=value) for suffix, labels, value in samples
        ),
    )
