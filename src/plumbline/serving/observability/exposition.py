"""`Exposition`: the text of `/metrics`, and the same figures as a snapshot for exporters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

__all__ = ["Exposition", "MetricFamily", "MetricSample", "MetricsSnapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSample:
    """One series: its full name, labels and value."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricFamily:
    """Series of one meaning; `kind` is `counter`, `gauge`, `histogram` or `info`."""

    name: str
    kind: str
    text: str
    samples: tuple[MetricSample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSnapshot:
    """All families at one moment. Values, so it may cross threads."""

    wall_ns: int
    families: tuple[MetricFamily, ...]


class Exposition:
    """Renders a collection in a registry of its own.

    Args:
        collect: all families, made at each call.
    """

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Families(collect))

    def render(self) -> tuple[bytes, str]:
        """The Prometheus text and its media type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def snapshot(self, wall_ns: int) -> MetricsSnapshot:
        """The same as values."""
        families = tuple(_family(metric) for metric in self._registry.collect())
        return MetricsSnapshot(wall_ns=wall_ns, families=families)


class _Families(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()

    def describe(self) -> Iterable[Metric]:
        return ()


def _family(metric: Metric) -> MetricFamily:
    samples = tuple(
        MetricSample(name=sample.name, labels=dict(sample.labels), value=float(sample.value))
        for sample in metric.samples
    )
    return MetricFamily(name=metric.name, kind=metric.type, text=metric.documentation, samples=samples)
