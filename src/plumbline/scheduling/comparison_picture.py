"""Policies beside one another in one picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from plumbline.scheduling import svg
from plumbline.scheduling.comparison import PolicyResult

__all__ = ["comparison_svg"]

_PANEL, _BAR, _LEFT, _TOP = 260.0, 18.0, 20.0, 46.0
_MEASURES: tuple[tuple[str, Callable[[PolicyResult], float], str], ...] = (
    ("mean latency, ms", lambda r: r.mean_latency_ns / 1e6, "{:.2f}"),
    ("p99 latency, ms", lambda r: r.p99_latency_ns / 1e6, "{:.2f}"),
    ("deadlines missed", lambda r: float(r.missed), "{:.0f}"),
)


def comparison_svg(results: Sequence[PolicyResult]) -> str:
    """Bars for latency, misses and shares of tenants, one row for each policy."""
    height = _TOP + len(results) * (_BAR + 6) + 30
    shapes = []
    for column, (title, measure, form) in enumerate(_MEASURES):
        values = [measure(result) for result in results]
        shapes += _bars(_LEFT + column * _PANEL, title, [r.policy for r in results], values, form)
    shapes += _shares(_LEFT + len(_MEASURES) * _PANEL, results)
    return svg.document(_LEFT + (len(_MEASURES) + 1) * _PANEL, height, shapes)


def _bars(x: float, title: str, names: Sequence[str], values: Sequence[float], form: str) -> list[str]:
    room, most = _PANEL - 150, max([*values, 1e-9])
    shapes = [svg.text(x, 24, title)]
    for row, (name, value) in enumerate(zip(names, values, strict=True)):
        y = _TOP + row * (_BAR + 6)
        width = room * value / most
        shapes.append(svg.text(x + 84, y + 13, name, anchor="end"))
        shapes.append(svg.rectangle(x + 90, y, width, _BAR, svg.colour(row)))
        shapes.append(svg.text(x + 94 + width, y + 13, form.format(value)))
    return shapes


def _shares(x: float, results: Sequence[PolicyResult]) -> list[str]:
    """How the work until the last arrival was divided between tenants."""
    shapes = [svg.text(x, 24, "share of tenants until the last arrival")]
    for row, result in enumerate(results):
        y, left = _TOP + row * (_BAR + 6), x + 90
        shapes.append(svg.text(x + 84, y + 13, result.policy, anchor="end"))
        for index, tenant in enumerate(result.tenants):
            width = (_PANEL - 110) * tenant.share
            if width > 0:
                title = f"{tenant.tenant}: {tenant.share:.1%}"
                shapes.append(svg.rectangle(left, y, width, _BAR, svg.colour(index), title))
            left += width
    return shapes
