"""The document of a benchmark as a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["render_markdown"]


def render_markdown(document: Mapping[str, Any]) -> str:
    """A table of every row, with the machine and the versions above it."""
    peers = sorted({peer for row in document["rows"] for peer in row.get("peers_ms", {})})
    headings = [
        "model",
        "threads",
        "plumbline ms",
        *(f"{peer} ms" for peer in peers),
        "ratio",
        "wanted",
        "of peak",
        "max error",
        "blocks",
    ]
    lines = [*_heading(document), "", _row(headings), _row(["---"] * len(headings))]
    lines += [_row(_cells(row, peers)) for row in document["rows"]]
    mean = document["geomean_ratio"]
    if mean is not None:
        lines += ["", f"Geometric mean of the ratios: {mean:.3f}."]
    refused = [row for row in document["rows"] if "refused" in row or "crashed" in row]
    if refused:
        lines += [
            "",
            "Refused:",
            "",
            *(f"- {r['model']}, {r['threads']} threads: {_message(r)}" for r in refused),
        ]
    return "\n".join(lines) + "\n"


def _heading(document: Mapping[str, Any]) -> list[str]:
    machine = document["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    peaks = ", ".join(f"{rate:.0f} on {count}" for count, rate in document["measured_peak_gflops"].items())
    contended = " One core was kept busy by another process." if document["contended"] else ""
    return [
        f"Machine: {machine['processor']}, {machine['usable_cores']} usable cores, {machine['vector_isa']}; "
        f"{machine['system']}. Measured multiply-add peak in GFLOP/s by threads: {peaks}.",
        "",
        f"Versions: {versions}; commit {document['commit'] or 'unknown'}.{contended}",
        "",
        "Times are medians (10th percentile in brackets). Ratio: better peer / plumbline; above 1 plumbline "
        "is faster. A star marks a row without quiet blocks.",
    ]


def _cells(row: Mapping[str, Any], peers: Sequence[str]) -> list[str]:
    tenth = row.get("p10_ms", {})
    measured = [_time(row.get("peers_ms", {}).get(peer), tenth.get(peer)) for peer in peers]
    star = "*" if row.get("disturbed") else ""
    return [
        row["model"] + star,
        str(row["threads"]),
        _time(row.get("ours_ms"), tenth.get("plumbline")),
        *measured,
        _number(row.get("ratio"), ".2f"),
        _number(row.get("wanted"), ".2f"),
        _number(row.get("peak_fraction"), ".0%"),
        _number(max(row.get("max_error", {}).values(), default=None), ".1e"),
        "/".join(str(count) for count in row.get("kept_blocks", {}).values()),
    ]


def _time(median: float | None, tenth: float | None) -> str:
    return "-" if median is None or tenth is None else f"{median:.4g} ({tenth:.4g})"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _message(row: Mapping[str, Any]) -> str:
    message = row["crashed"] if "crashed" in row else row["refused"]["message"]
    return str(message).replace("|", "\\|")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
