"""A toy exporter from a test file passes the suite of the port (X-72)."""

from __future__ import annotations

import json
from pathlib import Path

from plumbline.serving.observability.exporting import MetricsExporter
from plumbline.serving.observability.exposition import MetricsSnapshot
from plumbline.testing.exporters import MetricsExporterConformance


class JsonFile:
    """The last snapshot as one JSON file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def export_metrics(self, snapshot: MetricsSnapshot) -> None:
        samples = [sample for family in snapshot.families for sample in family.samples]
        self.path.write_text(json.dumps([[s.name, dict(s.labels), s.value] for s in samples]))


class TestJsonFile(MetricsExporterConformance):
    def make_exporter(self, folder: Path) -> MetricsExporter:
        return JsonFile(folder / "metrics.json")
