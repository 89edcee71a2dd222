"""The allocation plan for people (SVG) and for programs (a JSON-ready document)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plumbline.compiler.planning.memory import AllocationPlan, Placement
from plumbline.compiler.planning.picture_thinning import merged_shape, thin_out
from plumbline.compiler.planning.picture_words import clipped, describe, describe_rest, escaped, format_bytes

__all__ = [
    "MAX_BOXES",
    "PLAN_DOCUMENT_VERSION",
    "format_bytes",
    "placement_facts",
    "plan_document",
    "plan_figures",
    "render_svg",
]

PLAN_DOCUMENT_VERSION = 1
MAX_BOXES = 5_000
"""Buffers that a picture draws one by one unless it is told another number."""

_LEFT, _TOP, _WIDTH, _HEIGHT, _FOOT = 92, 92, 1060, 520, 72
_STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1d2430; }
.paper { fill: #fbfaf8; } .head { font-size: 19px; font-weight: 650; } .soft { fill: #667085; }
.grid { stroke: #e3e2de; } .axis { stroke: #667085; }
.peak { stroke: #b42318; } .bound { stroke: #067647; } .step { fill: #067647; fill-opacity: .12; }
.b { stroke: #fbfaf8; stroke-width: .8; fill-opacity: .88; } .w { fill-opacity: .45; }
.rest { fill: #98a2b3; fill-opacity: .45; }
.b:hover { fill-opacity: 1; stroke: #1d2430; } .n { font-size: 10.5px; fill: #10151d; pointer-events: none; }
@media (prefers-color-scheme: dark) {
  text { fill: #eceff4; } .paper { fill: #14181f; } .soft { fill: #98a2b3; } .n { fill: #10151d; }
  .grid { stroke: #2a303a; } .axis { stroke: #98a2b3; } .b { stroke: #14181f; } .b:hover { stroke: #eceff4; }
  .peak { stroke: #ff8a75; } .bound { stroke: #5fd3a0; } .step { fill: #5fd3a0; }
}
"""
_COLOURS = ("#7aa7e6", "#5fc9a8", "#eaa262", "#b28be0", "#6cc3da", "#a3cc6a", "#e588a9", "#dcc35f")


def plan_figures(plan: AllocationPlan) -> dict[str, Any]:
    """What a plan comes to, without its buffers: bytes, steps, and its digest."""
    return {
        "digest": plan.digest,
        "peak_bytes": plan.peak_bytes,
        "lower_bound_bytes": plan.lower_bound_bytes,
        "lower_bound_step": plan.lower_bound_step,
        "naive_bytes": plan.naive_bytes,
        "reuse_percent": round(plan.reuse_percent, 2),
        "alignment_bytes": plan.alignment_bytes,
    }


def placement_facts(placement: Placement) -> dict[str, Any]:
    """Where a buffer lies, in bytes of the arena, and from which step to which it is alive."""
    return {
        "name": placement.name,
        "offset_bytes": placement.offset_bytes,
        "size_bytes": placement.size_bytes,
        "first_step": placement.first,
        "last_step": placement.last,
    }


def plan_document(
    plan: AllocationPlan,
    *,
    weights_bytes: int,
    state_bytes: int,
    contexts: int = 1,
    steps: Mapping[int, str] | None = None,
) -> dict[str, Any]:
    """The plan as plain data, ready for JSON.

    Args:
        plan: the arena of one execution context.
        weights_bytes: read-only bytes, shared by all contexts.
        state_bytes: persistent bytes, owned by the caller.
        contexts: arenas that will exist.
        steps: step index -> name; named steps are listed.
    """
    document: dict[str, Any] = {
        "schema_version": PLAN_DOCUMENT_VERSION,
        **plan_figures(plan),
        "strategy": plan.strategy,
        "weights_bytes": weights_bytes,
        "state_bytes": state_bytes,
        "contexts": contexts,
        "total_bytes": weights_bytes + state_bytes + contexts * plan.peak_bytes,
        "tensors": [placement_facts(placement) for placement in plan.placements],
    }
    if steps:
        document["steps"] = [{"step": step, "name": steps[step]} for step in sorted(steps)]
    return document


def render_svg(
    plan: AllocationPlan,
    *,
    title: str = "Memory plan",
    steps: Mapping[int, str] | None = None,
    most_boxes: int = MAX_BOXES,
) -> str:
    """A self-contained SVG: steps to the right, addresses upwards, one box for each buffer.

    Boxes carry their facts as tooltips; names are written where they fit. Colours follow the reader's light
    or dark setting. The text says nothing about the machine, so the same plan gives the same bytes.

    A plan of more buffers than `most_boxes` is thinned, and the picture says so: those that take the most
    bytes x steps are boxes, the others one grey shape behind them.

    Args:
        plan: the plan; may be empty.
        title: heading, any text.
        steps: step index -> name, shown in the tooltips.
        most_boxes: drawn one by one.
    """
    count = max((placement.last for placement in plan.placements), default=0) + 1
    top = max(plan.peak_bytes, 1)
    scale_x, scale_y = _WIDTH / count, _HEIGHT / (top * 1.04)
    boxes, rest = thin_out(plan.placements, most_boxes)
    total_width, total_height = _LEFT + _WIDTH + 28, _TOP + _HEIGHT + _FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total_width} {total_height}" '
        f'role="img" aria-labelledby="plan-title plan-desc">',
        f'<title id="plan-title">{escaped(title)}</title>',
        f'<desc id="plan-desc">{escaped(describe(plan) + describe_rest(rest))}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect width="{total_width}" height="{total_height}" class="paper"/>',
        *_heading(plan, title, rest),
        *_axes(count, top, scale_x, scale_y),
        _bound_step(plan, scale_x),
        _rest(rest, scale_x, scale_y),
        *(_box(box, at, scale_x, scale_y, steps or {}) for at, box in enumerate(boxes)),
        *_levels(plan, scale_y),
        *_legend(),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _heading(plan: AllocationPlan, title: str, rest: Sequence[Placement]) -> list[str]:
    facts = (
        f"peak {format_bytes(plan.peak_bytes)} · lower bound {format_bytes(plan.lower_bound_bytes)} · "
        f"without reuse {format_bytes(plan.naive_bytes)} ({plan.reuse_percent:.1f} % saved) · "
        f"{len(plan.placements)} buffers" + (f", {len(rest)} of them together in grey" if rest else "")
    )
    shown = title if len(title) <= 90 else title[:89] + "…"
    return [
        f'<text class="head" x="{_LEFT}" y="36">{escaped(shown)}</text>',
        f'<text class="soft" x="{_LEFT}" y="58">{escaped(facts)}</text>',
    ]


def _axes(count: int, top: int, scale_x: float, scale_y: float) -> list[str]:
    parts = []
    floor = _TOP + _HEIGHT
    for size in range(0, top + 1, _round_interval(top, binary=True)):
        y = floor - size * scale_y
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        label = format_bytes(size)
        parts.append(f'<text class="soft" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for step in range(0, count, _round_interval(count, binary=False)):
        x = _LEFT + (step + 0.5) * scale_x
        parts.append(f'<text class="soft" x="{x:.1f}" y="{floor + 18}" text-anchor="middle">{step}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{floor}" y2="{floor}"/>')
    middle = _LEFT + _WIDTH / 2
    parts.append(f'<text class="soft" x="{middle:.0f}" y="{floor + 36}" text-anchor="middle">step</text>')
    turn = f'transform="rotate(-90 20 {_TOP + _HEIGHT // 2})"'
    parts.append(
        f'<text class="soft" x="20" y="{_TOP + _HEIGHT // 2}" text-anchor="middle" {turn}>address</text>'
    )
    return parts


def _round_interval(extent: int, *, binary: bool) -> int:
    """A round distance that cuts `extent` into at most ten pieces."""
    if binary:
        return max(256, 1 << max(0, (extent // 5).bit_length() - 1))
    interval = 1
    while extent / interval > 20:
        interval *= 5 if str(interval)[0] == "1" else 2
    return interval


def _bound_step(plan: AllocationPlan, scale_x: float) -> str:
    if not plan.lower_bound_bytes:
        return ""
    x, width = _LEFT + plan.lower_bound_step * scale_x, max(scale_x, 1.5)
    return f'<rect class="step" x="{x:.1f}" y="{_TOP}" width="{width:.1f}" height="{_HEIGHT}"/>'


def _rest(rest: Sequence[Placement], scale_x: float, scale_y: float) -> str:
    """One shape for all these buffers."""
    if not rest:
        return ""
    boxes = [
        (
            p.first * scale_x,
            _HEIGHT - (p.offset_bytes + p.size_bytes) * scale_y,
            (p.last - p.first + 1) * scale_x,
            p.size_bytes * scale_y,
        )
        for p in rest
    ]
    shape = merged_shape(boxes, _WIDTH, _HEIGHT)
    return (
        f"<g><title>{escaped(describe_rest(rest).strip())}</title>"
        f'<path class="rest" transform="translate({_LEFT} {_TOP})" d="{shape}"/></g>'
    )


def _box(box: Placement, at: int, scale_x: float, scale_y: float, steps: Mapping[int, str]) -> str:
    x, width = _LEFT + box.first * scale_x, (box.last - box.first + 1) * scale_x
    height = box.size_bytes * scale_y
    y = _TOP + _HEIGHT - box.offset_bytes * scale_y - height
    span = f"steps {_named(box.first, steps)} to {_named(box.last, steps)}"
    if box.first == box.last:
        span = f"step {_named(box.first, steps)}"
    tip = f"{clipped(box.name)}: {format_bytes(box.size_bytes)} at byte {box.offset_bytes}, {span}"
    kind = "b w" if box.name.endswith("/workspace") else "b"
    return (
        f'<g><title>{escaped(tip)}</title><rect class="{kind}" x="{x:.2f}" y="{y:.2f}" '
        f'width="{max(width, 0.6):.2f}" height="{max(height, 0.6):.2f}" '
        f'rx="{min(3.0, width / 6, height / 6):.1f}" fill="{_COLOURS[at % len(_COLOURS)]}"/>'
        f"{_box_text(box.name, x, y, width, height)}</g>"
    )


def _box_text(name: str, x: float, y: float, width: float, height: float) -> str:
    """The name across the box, or along it when it is narrow and tall, or nothing."""
    upright = width >= height or len(name) * 6.2 + 8 <= width
    long, short = (width, height) if upright else (height, width)
    room = int((long - 8) / 6.2)
    if short < 13 or room < 3:
        return ""
    shown = name if len(name) <= room else name[: room - 1] + "…"
    cx, cy = x + width / 2, y + height / 2
    turn = "" if upright else f' transform="rotate(-90 {cx:.1f} {cy:.1f})"'
    return (
        f'<text class="n" x="{cx:.1f}" y="{cy + 3.8:.1f}" text-anchor="middle"{turn}>{escaped(shown)}</text>'
    )


def _named(step: int, steps: Mapping[int, str]) -> str:
    return f"{step} ({clipped(steps[step])})" if step in steps else str(step)


def _levels(plan: AllocationPlan, scale_y: float) -> list[str]:
    parts = []
    for name, size in (("peak", plan.peak_bytes), ("bound", plan.lower_bound_bytes)):
        y = _TOP + _HEIGHT - size * scale_y
        dash = "" if name == "peak" else ' stroke-dasharray="7 5"'
        parts.append(
            f'<line class="{name}" stroke-width="1.8"{dash} x1="{_LEFT}" x2="{_LEFT + _WIDTH}" '
            f'y1="{y:.1f}" y2="{y:.1f}"/>'
        )
    return parts


def _legend() -> list[str]:
    y = _TOP + _HEIGHT + 56
    swatch = f'<rect x="{_LEFT + 420}" y="{y - 10}" width="22" height="11" rx="2" class="b" fill="#7aa7e6"/>'
    return [
        f'<line class="peak" stroke-width="1.8" x1="{_LEFT}" x2="{_LEFT + 22}" y1="{y - 4}" y2="{y - 4}"/>',
        f'<text x="{_LEFT + 28}" y="{y}">planned peak</text>',
        f'<line class="bound" stroke-width="1.8" stroke-dasharray="7 5" x1="{_LEFT + 130}" '
        f'x2="{_LEFT + 152}" y1="{y - 4}" y2="{y - 4}"/>',
        f'<text x="{_LEFT + 158}" y="{y}">lower bound</text>',
        f'<rect class="step" x="{_LEFT + 256}" y="{y - 10}" width="22" height="11"/>',
        f'<text x="{_LEFT + 284}" y="{y}">step that sets it</text>',
        swatch,
        f'<text x="{_LEFT + 448}" y="{y}">buffer (paler: workspace); details on hover</text>',
    ]
