"""What was served, counted as Triton's statistics extension counts."""

from __future__ import annotations

from plumbline.contracts.inference import InferenceCall, InferenceResult, VersionRef
from plumbline.serving.ports import VersionStatistics

__all__ = ["VersionCounters"]


class VersionCounters:
    """Counts of one version since it became ready. Owned by the directory; used on its event loop alone.

    Args:
        ref: which version.
        batched: whether the first axis of an input counts inferences; otherwise a request is one.
    """

    __slots__ = (
        "_batched",
        "_batches",
        "_cache_hit_ns",
        "_cache_hits",
        "_compute_ns",
        "_failure_ns",
        "_failures",
        "_inferences",
        "_last_wall_ns",
        "_queue_ns",
        "_ref",
        "_success_ns",
        "_successes",
    )

    def __init__(self, ref: VersionRef, *, batched: bool) -> None:
        self._ref, self._batched = ref, batched
        self._last_wall_ns = self._inferences = 0
        self._successes = self._success_ns = self._failures = self._failure_ns = 0
        self._queue_ns = self._compute_ns = self._cache_hits = self._cache_hit_ns = 0
        self._batches: dict[int, list[int]] = {}

    def succeed(
        self, call: InferenceCall, result: InferenceResult, *, started_ns: int, now_ns: int, wall_ns: int
    ) -> None:
        """Count a request that got its result."""
        self._last_wall_ns = wall_ns
        self._successes += 1
        self._success_ns += now_ns - started_ns
        self._inferences += self._rows(call)
        if result.cached:
            self._cache_hits += 1
            self._cache_hit_ns += now_ns - started_ns
            return
        timing = result.timing
        compute_ns = max(timing.finished_ns - timing.launched_ns, 0)
        self._queue_ns += max(timing.launched_ns - (timing.queued_ns or timing.arrived_ns), 0)
        self._compute_ns += compute_ns
        batch = self._batches.get(timing.batched)
        if batch is None:
            batch = self._batches[timing.batched] = [0, 0]
        batch[0] += 1
        batch[1] += compute_ns

    def fail(self, *, started_ns: int, now_ns: int) -> None:
        """Count a request that was accepted for this version and got an error."""
        self._failures += 1
        self._failure_ns += now_ns - started_ns

    def snapshot(self) -> VersionStatistics:
        """The counts as they are. A launch that served n requests counts once: n requests saw it."""
        batches = {
            size: (-(-requests // size), total_ns // size)
            for size, (requests, total_ns) in sorted(self._batches.items())
        }
        return VersionStatistics(
            ref=self._ref,
            last_inference_wall_ns=self._last_wall_ns,
            inferences=self._inferences,
            executions=sum(launches for launches, _ in batches.values()),
            successes=self._successes,
            success_ns=self._success_ns,
            failures=self._failures,
            failure_ns=self._failure_ns,
            queue_ns=self._queue_ns,
            compute_ns=self._compute_ns,
            cache_hits=self._cache_hits,
            cache_hit_ns=self._cache_hit_ns,
            batches=batches,
        )

    def _rows(self, call: InferenceCall) -> int:
        if self._batched:
            for array in call.inputs.values():
                return int(array.shape[0]) if array.ndim else 1
        return 1
