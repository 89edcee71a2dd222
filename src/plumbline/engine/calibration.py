"""How long a launch takes at most, measured: cost bounds with a stated coverage, for admission.

Every segment of a version is timed while the other cores run real work of the same or another version, with a
hand-over between threads before the launch and at every boundary, as a scheduled launch has, and with
caches swept before every fourth run. Of a pipeline the pieces are its stages, each with what leads to the
next: passing tensors on and admitting them. The bound of a piece is an order statistic of the samples that
covers a stated share of runs with a stated confidence, whatever the distribution (Wilks 1941), plus a margin;
runs that took no part in choosing it are then held against it.

This is no proof of a worst-case execution time: on a general-purpose system there is none.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import ceil, exp, lgamma, log, log1p
from queue import SimpleQueue
from typing import Any

import numpy as np

from plumbline.contracts.models import VersionKind
from plumbline.engine.loading import stage_sessions
from plumbline.engine.session import Admitted, Session
from plumbline.engine.stage_chain import StageChain
from plumbline.errors import ExecutionError, ValidationError

__all__ = [
    "CalibrationFailed",
    "CalibrationOptions",
    "CalibrationTermsRefused",
    "CostBound",
    "bound_from_samples",
    "calibrate",
    "runs_needed",
    "tolerance_rank",
    "verify_measurable",
]

SCHEMA_VERSION = 1
COLD_EVERY = 4
SWEEP_BYTES = 64 * 2**20
WARM_UP_RUNS = 20
MAX_RUNS = 1_000_000


@dataclass(eq=False, kw_only=True)
class CalibrationTermsRefused(ValidationError):
    """A calibration cannot give what is asked of it."""

    code = "validation.calibration"
    owner = "engine"
    template = "calibration: {reason}"

    reason: str


@dataclass(eq=False, kw_only=True)
class CalibrationFailed(ExecutionError):
    """A launch failed while it was measured, or the load beside it did."""

    code = "execution.calibration"
    owner = "engine"
    template = "calibration of {version!r} stopped: {reason}"

    version: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationOptions:
    """What is asked of a calibration.

    Attributes:
        runs: measured runs that choose the bound.
        coverage: share of runs that the bound must cover, between 0 and 1.
        confidence: probability that it does, over repeated calibrations, between 0 and 1.
        margin: added to the order statistic, as a share of it.
        held_out: measured runs that check the bound.
        loaders: threads that run real work meanwhile; each keeps as many cores busy as a launch has threads.

    Raises:
        CalibrationTermsRefused: a value makes no sense, or `runs` are too few for coverage and confidence.
    """

    runs: int = 4000
    coverage: float = 0.999
    confidence: float = 0.95
    margin: float = 0.2
    held_out: int = 1000
    loaders: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.coverage < 1 or not 0 < self.confidence < 1:
            raise CalibrationTermsRefused(reason="coverage and confidence lie between 0 and 1")
        if not 0 <= self.margin <= 10 or not 0 <= self.loaders <= 1024:
            raise CalibrationTermsRefused(reason="the margin is 0 to 10, the loaders 0 to 1024")
        if not 1 <= self.runs <= MAX_RUNS or not 1 <= self.held_out <= MAX_RUNS:
            raise CalibrationTermsRefused(reason=f"runs and held-out runs are 1 to {MAX_RUNS}")
        tolerance_rank(self.runs, self.coverage, self.confidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostBound:
    """Bounds of one launch of a version, and how far they can be trusted.

    Attributes:
        cost_bound_ns: of the whole launch: the sum of its segments.
        segment_bounds_ns: of each segment; of a pipeline, of each stage.
        quantile_ns: the order statistic of each segment, before the margin.
        coverage, confidence, margin, samples, loaders: see `CalibrationOptions`.
        rank: place of the order statistic among the sorted samples, from 1.
        median_ns: of each segment.
        worst_ns: longest time of each segment over all runs, held-out ones included.
        held_out: runs that checked the bound.
        held_out_exceedances: of these, runs in which some segment took longer than its bound.
        condition: what the bounds hold under, in plain words.
    """

    cost_bound_ns: int
    segment_bounds_ns: tuple[int, ...]
    quantile_ns: tuple[int, ...]
    coverage: float
    confidence: float
    margin: float
    samples: int
    loaders: int
    rank: int
    median_ns: tuple[int, ...]
    worst_ns: tuple[int, ...]
    held_out: int
    held_out_exceedances: int
    condition: str

    def document(self) -> dict[str, Any]:
        """Plain JSON values: what `calibration.json` beside a version holds."""
        return {
            "schema_version": SCHEMA_VERSION,
            "cost_bound_ns": self.cost_bound_ns,
            "segment_bounds_ns": list(self.segment_bounds_ns),
            "quantile_ns": list(self.quantile_ns),
            "coverage": self.coverage,
            "confidence": self.confidence,
            "margin": self.margin,
            "samples": self.samples,
            "loaders": self.loaders,
            "rank": self.rank,
            "median_ns": list(self.median_ns),
            "worst_ns": list(self.worst_ns),
            "held_out": self.held_out,
            "held_out_exceedances": self.held_out_exceedances,
            "condition": self.condition,
        }


def runs_needed(coverage: float, confidence: float) -> int:
    """Fewest runs whose largest covers that share with that confidence.

    >>> runs_needed(0.999, 0.95)
    2995
    """
    return ceil(log(1 - confidence) / log(coverage))


def tolerance_rank(samples: int, coverage: float, confidence: float) -> int:
    """Place, from 1, of the smallest order statistic that is an upper tolerance bound.

    The m-th of n sorted independent samples exceeds a share p of the distribution with probability
    P(Binomial(n, p) < m), whatever the distribution is.

    Raises:
        CalibrationTermsRefused: not even the largest sample is; the number that is needed is named.

    >>> tolerance_rank(2995, 0.999, 0.95), tolerance_rank(100, 0.9, 0.95)
    (2995, 96)
    """
    needed = runs_needed(coverage, confidence)
    if samples < needed:
        reason = (
            f"{samples} runs cannot cover {coverage:.4%} with a confidence of {confidence:.1%}; "
            f"{needed} are needed"
        )
        raise CalibrationTermsRefused(reason=reason)
    # How many samples may lie beyond: so few lie there with the probability that may be given away.
    above, chance = 0, coverage**samples
    while above < samples:
        chance += _binomial(samples, above + 1, 1 - coverage)
        if chance > 1 - confidence:
            break
        above += 1
    return samples - above


def _binomial(trials: int, hits: int, share: float) -> float:
    ways = lgamma(trials + 1) - lgamma(hits + 1) - lgamma(trials - hits + 1)
    return exp(ways + hits * log(share) + (trials - hits) * log1p(-share))


def bound_from_samples(samples: np.ndarray, held_out: np.ndarray, options: CalibrationOptions) -> CostBound:
    """Bounds from measured times.

    Args:
        samples: int64 [runs, segments], nanoseconds.
        held_out: int64 [held-out runs, segments].
        options: coverage, confidence and margin.

    Raises:
        CalibrationTermsRefused: too few samples.
    """
    rank = tolerance_rank(len(samples), options.coverage, options.confidence)
    quantile = np.sort(samples, axis=0)[rank - 1]
    bounds = tuple(int(value * (1 + options.margin)) + 1 for value in quantile.tolist())
    exceeded = int((held_out > np.asarray(bounds)).any(axis=1).sum())
    everything = np.concatenate([samples, held_out])
    return CostBound(
        cost_bound_ns=sum(bounds),
        segment_bounds_ns=bounds,
        quantile_ns=tuple(quantile.tolist()),
        coverage=options.coverage,
        confidence=options.confidence,
        margin=options.margin,
        samples=len(samples),
        loaders=options.loaders,
        rank=rank,
        median_ns=tuple(int(value) for value in np.median(everything, axis=0)),
        worst_ns=tuple(everything.max(axis=0).tolist()),
        held_out=len(held_out),
        held_out_exceedances=exceeded,
        condition=_condition(options, len(samples), len(held_out), exceeded),
    )


def calibrate(
    session: Session,
    options: CalibrationOptions | None = None,
    *,
    load: Session | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CostBound:
    """Measure what a launch of a session takes at most, at the bounds of its inputs.

    Args:
        session: to measure; instances are opened and closed here.
        options: see there.
        load: the other session whose launches keep the other cores busy; the same one when None.
        progress: called with runs done and runs in all.

    Raises:
        CalibrationTermsRefused: the session, or a stage of it, is a Python class.
        CalibrationFailed: a launch failed.
        PlumblineError: an instance cannot be opened, or refuses its own example.
    """
    wanted = options or CalibrationOptions()
    for stage in stage_sessions(session):
        verify_measurable(stage.metadata.kind, str(stage.metadata.ref))
    with ExitStack() as opened:
        chain = StageChain(session)
        opened.callback(chain.close)
        clocked = opened.enter_context(_clocked(session, chain))
        opened.enter_context(_saturated(load or session, wanted.loaders, str(session.metadata.ref)))
        sweep = np.zeros(SWEEP_BYTES // 8, np.int64)
        total = wanted.runs + wanted.held_out
        rows: list[list[int]] = []
        for done in range(-WARM_UP_RUNS, total):
            if done % COLD_EVERY == 0:
                sweep += 1
            times = clocked()
            if done >= 0:
                rows.append(times)
                progress(done + 1, total)
    measured = np.asarray(rows, np.int64)
    # Runs of both kinds are spread over the whole time: a machine changes as it warms up.
    order = np.random.default_rng(0).permutation(total)
    return bound_from_samples(measured[order[: wanted.runs]], measured[order[wanted.runs :]], wanted)


def verify_measurable(kind: VersionKind, version: str) -> None:
    """A bound of this kind would be worth something.

    Raises:
        CalibrationTermsRefused: it is a Python class.
    """
    if kind is VersionKind.PYTHON:
        reason = (
            f"{version} is a Python class: it runs beside the streams, no promise is made to it, and what "
            "its code took in some runs bounds no other"
        )
        raise CalibrationTermsRefused(reason=reason)


@contextmanager
def _clocked(session: Session, chain: StageChain) -> Iterator[Callable[[], list[int]]]:
    """A call that runs once on another thread and returns the time of each segment, or of each stage of a
    pipeline; hand-overs are included.
    """
    by_stage = session.metadata.kind is VersionKind.PIPELINE
    request = chain.example
    orders: SimpleQueue[bool] = SimpleQueue()
    reports: SimpleQueue[Future[Admitted | None] | None] = SimpleQueue()

    def between(_segment: int) -> bool:
        reports.put(None)
        return orders.get()

    def once() -> list[int]:
        marks = [time.monotonic_ns()]
        following: Admitted | None = request
        for position in range(len(chain)):
            if following is None:
                break
            future = pool.submit(chain.run_stage, position, following, between)
            future.add_done_callback(reports.put)
            while (over := reports.get()) is None:
                if not by_stage:
                    marks.append(time.monotonic_ns())
                orders.put(True)
            marks.append(time.monotonic_ns())
            following = _result_of(session, over)
        return [after - before for before, after in itertools.pairwise(marks)]

    with ThreadPoolExecutor(1, thread_name_prefix="plumbline calibration") as pool:
        yield once


def _result_of(session: Session, over: Future[Admitted | None]) -> Admitted | None:
    failed = over.exception()
    if failed is not None:
        reason = f"{type(failed).__name__}: {failed}"[:200]
        raise CalibrationFailed(version=str(session.metadata.ref), reason=reason) from failed
    return over.result()


@contextmanager
def _saturated(session: Session, loaders: int, version: str) -> Iterator[None]:
    """Keep other cores busy with launches of a session. Each loader has ended one when the body begins."""
    if not loaders:
        yield
        return
    stop, going = threading.Event(), [threading.Event() for _ in range(loaders)]

    def work(chain: StageChain, going_on: threading.Event) -> None:
        try:
            request = chain.example
            while not stop.is_set():
                chain.run(request, lambda _segment: not stop.is_set())
                going_on.set()
        finally:
            going_on.set()

    with ExitStack() as opened:
        pool = opened.enter_context(ThreadPoolExecutor(loaders, thread_name_prefix="plumbline load"))
        opened.callback(stop.set)
        chains = [StageChain(session) for _ in range(loaders)]
        loads = [pool.submit(work, *pair) for pair in zip(chains, going, strict=True)]
        try:
            for loader in going:
                loader.wait()
            yield
        finally:
            stop.set()
            for load, chain in zip(loads, chains, strict=True):
                load.exception()
                chain.close()
    failed = next((load.exception() for load in loads if load.exception() is not None), None)
    if failed is not None:
        reason = f"the load beside it failed: {type(failed).__name__}: {failed}"[:200]
        raise CalibrationFailed(version=version, reason=reason) from failed


def _condition(options: CalibrationOptions, samples: int, held_out: int, exceeded: int) -> str:
    loads = "1 launch" if options.loaders == 1 else f"{options.loaders} launches"
    return (
        f"Measured, not proved. With {options.confidence:.0%} confidence at least {options.coverage:.2%} of "
        f"the runs of each segment stay below its bound, even before the margin of {options.margin:.0%}, if "
        f"later runs are like the {samples} measured ones: this machine with its power and clock settings, "
        f"this version, this number of threads, inputs within its bounds, and at most {loads} of other work "
        f"at the same time. Of {held_out} held-out runs {exceeded} exceeded a bound. The operating system "
        "can stop any thread at any time: a deadline missed because a segment exceeded its bound is recorded "
        "as a breach."
    )
