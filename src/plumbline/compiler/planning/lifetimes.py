"""First and last step of every value: the intervals that memory is planned over.

Time is the index of a step, 0 .. n-1. A lifetime is inclusive on both ends: a value is live in the step that
writes it and in the last step that reads it, so the operands and the results of one step never share bytes
unless the alias resolver says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from plumbline.errors import ValidationError

__all__ = [
    "ALIGNMENT_BYTES",
    "Buffer",
    "Lifetime",
    "LifetimeAnalyser",
    "StepAccess",
    "UnplannableValueError",
    "align_up",
    "workspace_buffers",
]

ALIGNMENT_BYTES = 256
"""Every planned address is a multiple of this, which every device that we target accepts."""


def align_up(size_bytes: int, alignment_bytes: int = ALIGNMENT_BYTES) -> int:
    """The smallest multiple of `alignment_bytes` that holds `size_bytes`.

    >>> align_up(1), align_up(256), align_up(0)
    (256, 256, 0)
    """
    return -(-size_bytes // alignment_bytes) * alignment_bytes


@dataclass(eq=False, kw_only=True)
class UnplannableValueError(ValidationError):
    """A value has no static lifetime: it is read before it exists, or written where it must not be."""

    code = "validation.plan.value"
    owner = "compiler.planning"
    template = "value {value!r} at step {step!r}: {reason}"

    value: str
    step: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAccess:
    """What one step touches. `workspace_bytes` is scratch space that only this step uses."""

    name: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    workspace_bytes: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Lifetime:
    """Inclusive interval of steps."""

    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        """Whether some step lies in both."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """Bytes that need one address during an inclusive interval of steps."""

    name: str
    size_bytes: int
    first: int
    last: int


class LifetimeAnalyser:
    """Computes lifetimes; holds no state."""

    def analyse(
        self,
        steps: Sequence[StepAccess],
        *,
        inputs: Iterable[str] = (),
        outputs: Iterable[str] = (),
        external: Iterable[str] = (),
        views: Mapping[str, str] | None = None,
    ) -> dict[str, Lifetime]:
        """The lifetime of every value of the arena, in the order in which values appear.

        Args:
            steps: the program, in execution order.
            inputs: graph inputs, live for the whole run.
            outputs: graph outputs, live from their production to the end.
            external: weights and state, which live outside the arena and get no lifetime.
            views: value -> base, for values that no step writes because they are bytes of another value.

        Raises:
            UnplannableValueError: a value is read before it exists, written twice or is a written input.
        """
        end = max(len(steps) - 1, 0)
        views = views or {}
        outside = frozenset(external)
        spans: dict[str, list[int]] = {name: [0, end] for name in inputs}
        for index, step in enumerate(steps):
            for value in step.reads:
                if value not in outside:
                    span = _span(value, step.name, spans, views, outside)
                    if span is not None:
                        span[1] = max(span[1], index)
            for value in step.writes:
                if value not in outside:
                    _begin(value, step.name, index, spans)
        for value in outputs:
            if value not in outside:
                span = _span(value, "the end of the graph", spans, views, outside)
                if span is not None:
                    span[1] = end
        return {name: Lifetime(first, last) for name, (first, last) in spans.items()}


def workspace_buffers(steps: Sequence[StepAccess]) -> tuple[Buffer, ...]:
    """One buffer for each step that asked for workspace, live in that step only."""
    return tuple(
        Buffer(name=f"{step.name}/workspace", size_bytes=step.workspace_bytes, first=index, last=index)
        for index, step in enumerate(steps)
        if step.workspace_bytes > 0
    )


def _begin(value: str, step: str, index: int, spans: dict[str, list[int]]) -> None:
    if value in spans:
        raise UnplannableValueError(value=value, step=step, reason="it exists already")
    spans[value] = [index, index]


def _span(
    value: str, step: str, spans: dict[str, list[int]], views: Mapping[str, str], outside: frozenset[str]
) -> list[int] | None:
    """The interval of `value`, begun with its base when it is a view; None when the base is external."""
    chain: list[str] = []
    base = value
    while base not in spans:
        if base in outside:
            return None
        chain.append(base)
        if base not in views or len(chain) > len(views):
            raise UnplannableValueError(value=value, step=step, reason="no earlier step writes it")
        base = views[base]
    for name in reversed(chain):
        spans[name] = [spans[base][0], spans[base][0]]
    return spans[value]
