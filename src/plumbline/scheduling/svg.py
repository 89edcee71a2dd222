"""The few shapes that the pictures of this package are drawn with. No style from elsewhere, no script."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

__all__ = ["colour", "document", "line", "rectangle", "text"]

_COLOURS = ("#3b6ea5", "#c1663d", "#5a8f5a", "#8b5a9f", "#b59b3a", "#4a9a9a", "#a54a6a", "#6b6b6b")


def colour(index: int) -> str:
    """One of eight, over and over."""
    return _COLOURS[index % len(_COLOURS)]


def rectangle(x: float, y: float, width: float, height: float, fill: str, title: str = "") -> str:
    """A bar; `title` shows when pointed at."""
    place = f'x="{x:.2f}" y="{y:.2f}" width="{max(width, 0.5):.2f}" height="{height:.2f}"'
    shape = f"<rect {place} fill={quoteattr(fill)}"
    return f"{shape}><title>{escape(title)}</title></rect>" if title else f"{shape}/>"


def line(x1: float, y1: float, x2: float, y2: float, stroke: str) -> str:
    """A thin line."""
    return f'<line x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}" stroke={quoteattr(stroke)}/>'


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    """A line of text."""
    return f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}">{escape(words)}</text>'


def document(width: float, height: float, shapes: Iterable[str]) -> str:
    """The picture."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="sans-serif" font-size="11">'
    )
    background = f'<rect width="{width:.0f}" height="{height:.0f}" fill="white"/>'
    return "\n".join([head, background, *shapes, "</svg>", ""])
