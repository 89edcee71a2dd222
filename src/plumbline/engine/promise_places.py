"""`PromisePlaces`: on which stream a graph may be promised anything, and what that asks of its instances.

What the exact tests assume of a stream, and who provides it:

* a promised job that is first finds an instance. A graph with D tasks that may be interrupted has at least
  D + 2 instances: one for each of their jobs, one for best effort, one for the job that starts. A graph with
  fewer is never interrupted once anything is promised to it, so its promised jobs count as one piece, and its
  best-effort launches must be no longer than the bound of best effort;
* one stream: the version is bound to a lane, or there is only one;
* a pipeline is one job whose pieces are its stages. Between two stages the stream goes to whoever is first,
  and the job waits there with the deadline that it had, so this needs an order by deadlines: among equals of
  a fixed order it would have arrived anew. A promised stage is never interrupted, so at most one instance of
  it is taken, by a best-effort launch below it: two instances are enough, and one is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.engine.loading import LoadedStage
from plumbline.errors import PolicyError
from plumbline.scheduling.admission.orders import Order

__all__ = ["PromiseImpossible", "PromisePlaces"]

CLASS_REASON = (
    "is a Python class: it runs on a thread beside the streams, and its code has no cost bound that a "
    "promise could rest on"
)
STAGE_INSTANCES = 2
"""Of each stage of a pipeline that gets promises."""


@dataclass(eq=False, kw_only=True)
class PromiseImpossible(PolicyError):
    """A promise was asked for by name, and this engine cannot give one to such work."""

    code = "policy.promise_impossible"
    http_status = 409
    owner = "engine"
    template = "no promise for {subject!r}: {reason}"

    subject: str
    reason: str


class PromisePlaces:
    """Owned by a `PromiseDesk`.

    Args:
        order: of promised jobs.
        streams: how many there are.
        best_effort_segment_ns: bound of the longest piece of best-effort work between two boundaries.
    """

    def __init__(self, order: Order, *, streams: int, best_effort_segment_ns: int) -> None:
        self._order, self._streams, self._best_effort_ns = order, streams, best_effort_segment_ns
        self._interruptible: Counter[str] = Counter()
        self._promising: set[str] = set()

    def why_never(self, stage: LoadedStage) -> str:
        """Why nothing can be promised to this version, whatever is asked; empty where something can."""
        for position, part in enumerate(stage.chain):
            if part.own_lane:
                what = f"stage {position} of {stage.version}" if len(stage.chain) > 1 else stage.version
                return f"{what} {CLASS_REASON}"
        if len(stage.chain) > 1 and self._order is not Order.EDF:
            return (
                f"{stage.version} is a pipeline, whose requests arrive anew at each stage, and {self._order} "
                f"serves equals by arrival; {Order.EDF} can promise"
            )
        return ""

    def stream_of(self, subject: str, stage: LoadedStage, pieces_ns: Sequence[int]) -> int:
        """The stream of the promises of a version.

        Args:
            subject: for messages.
            stage: the first one of the version.
            pieces_ns: bound of each stage of a pipeline, else of each segment.

        Raises:
            PromiseImpossible: it has none.
        """
        reason = self.why_never(stage) or self._why_unbound(stage)
        if not reason and len(stage.chain) > 1:
            reason = _why_not_chained(stage, pieces_ns)
        elif not reason:
            reason = self._why_held(stage, sum(pieces_ns))
        if reason:
            raise PromiseImpossible(subject=subject, reason=reason)
        return stage.stream or 0

    def is_divisible(self, stage: LoadedStage) -> bool:
        """Whether jobs of one task more may be interrupted between their pieces."""
        return len(stage.chain) > 1 or len(stage.instances) >= self._interruptible[stage.graph] + 3

    def count_task(self, stage: LoadedStage, change: int) -> None:
        """One interruptible task more or less; the stages of a pipeline are never interrupted."""
        if len(stage.chain) == 1:
            self._interruptible[stage.graph] += change

    def keeps_stream(self, stage: LoadedStage) -> bool:
        """Whether best-effort launches of this graph are not interrupted, for want of instances."""
        return stage.graph in self._promising and self._has_few_instances(stage)

    def forget(self, graph: str) -> None:
        """A graph is unloaded."""
        self._promising.discard(graph)

    def _why_unbound(self, stage: LoadedStage) -> str:
        if stage.stream is None and self._streams > 1:
            return f"{stage.version} is bound to no stream, and there are {self._streams}"
        return ""

    def _why_held(self, stage: LoadedStage, cost_ns: int) -> str:
        """Why a job of a single stage might find no instance. Its launches count as promised from now on."""
        first, few = stage.graph not in self._promising, self._has_few_instances(stage)
        self._promising.add(stage.graph)
        if first and few and not stage.free:
            return f"a launch of {stage.graph} runs that may be interrupted; ask again when it is over"
        if few and cost_ns > self._best_effort_ns:
            return (
                f"best-effort launches of {stage.graph} take up to {cost_ns} ns, the bound of best effort is "
                f"{self._best_effort_ns}; with two instances more they could be interrupted"
            )
        return ""

    def _has_few_instances(self, stage: LoadedStage) -> bool:
        return len(stage.instances) < self._interruptible[stage.graph] + 2


def _why_not_chained(stage: LoadedStage, pieces_ns: Sequence[int]) -> str:
    if len(pieces_ns) != len(stage.chain):
        return f"{len(pieces_ns)} bounds are given, {stage.version} has {len(stage.chain)} stages"
    for position, part in enumerate(stage.chain):
        if len(part.instances) < STAGE_INSTANCES:
            return (
                f"stage {position} of {stage.version} has one instance, which an interrupted best-effort "
                f"launch would hold; give its version {STAGE_INSTANCES} (instances in version.toml)"
            )
    return ""
