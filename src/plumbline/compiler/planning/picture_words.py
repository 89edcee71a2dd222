"""The words of a plan picture: sizes, names and sentences, as text that an XML document can hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from plumbline.compiler.planning.memory import AllocationPlan, Placement

__all__ = ["clipped", "describe", "describe_rest", "escaped", "format_bytes"]

_NAME_CHARACTERS = 160
_UNWRITABLE = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
"""Characters that no XML document may hold."""


def describe(plan: AllocationPlan) -> str:
    """The plan in sentences, for readers who do not see the picture."""
    largest = sorted(plan.placements, key=lambda p: (-p.size_bytes, p.name))[:5]
    listed = "; ".join(
        f"{clipped(p.name)}, {format_bytes(p.size_bytes)} at byte {p.offset_bytes}, "
        f"steps {p.first} to {p.last}"
        for p in largest
    )
    over = 100 * (plan.peak_bytes / plan.lower_bound_bytes - 1) if plan.lower_bound_bytes else 0.0
    return (
        f"{len(plan.placements)} buffers. The arena holds {plan.peak_bytes} bytes, {over:.1f} % over the "
        f"lower bound of {plan.lower_bound_bytes} bytes, which is reached at step {plan.lower_bound_step}. "
        f"Reuse saves {plan.reuse_percent:.1f} % of {plan.naive_bytes} bytes. Largest: {listed or 'none'}."
    )


def format_bytes(size_bytes: int) -> str:
    """A size for people, in binary units.

    >>> format_bytes(1536), format_bytes(12)
    ('1.50 KiB', '12 B')
    """
    size, unit = float(size_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size_bytes} B" if unit == "B" else f"{size:.2f} {unit}"


def describe_rest(rest: Sequence[Placement]) -> str:
    """What a picture leaves out, in a sentence; empty for nothing."""
    if not rest:
        return ""
    largest = format_bytes(max(placement.size_bytes for placement in rest))
    return (
        f" The {len(rest)} that take the least bytes x steps, at most {largest} each, "
        "are drawn together in grey."
    )


def escaped(text: str) -> str:
    """Text that an XML document can hold, whatever a model file calls its tensors."""
    return escape(_UNWRITABLE.sub("\ufffd", text))


def clipped(name: str) -> str:
    """A name, or the beginning of a long one."""
    return name if len(name) <= _NAME_CHARACTERS else name[: _NAME_CHARACTERS - 1] + "…"
