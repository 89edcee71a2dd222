"""Sizes, limits and times of a pool of worker processes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PoolOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """Attributes:
    calls_per_worker: accepted calls that one worker may have in hand: its credit.
    input_bytes: room for inputs in the shared file of a worker; pages take memory when first used.
    ring_bytes: room for outputs in it.
    own_file_bytes: a call with more input, or a result with more output, travels in a file of its own.
    max_call_bytes: most input of one call, and most output.
    own_files: calls with files of their own that one worker may have in hand.
    suspects_at_once: calls whose worker died that one worker may have in hand: one by one shows which
        of them kills.
    stall_floor_s: a worker that shows no sign of life for so long is stalled, whatever it does.
    loading_floor_s: the same while it loads.
    uncalibrated_stall_s: a busy engine without a step for so long is stalled, when a version without a
        calibrated cost bound runs; with one it is the larger of the bound and `stall_floor_s`.
    max_run_s: longest run of a class whose version states none.
    memory_limit_bytes: most private memory of a worker's process; None for no limit.
    watch_interval_s: between two looks at the progress; readiness turns false at most two of them after the
        bound.
    start_timeout_s: from the start of a process to its first message.
    load_timeout_s: of one version.
    stop_timeout_s: for a worker to end when told to; then it is killed.
    backoff_s: wait before the first replacement that follows a failed start; doubles up to
        `max_backoff_s`.
    storm_deaths: deaths in a row, without a second of readiness between, that degrade the pool.
    retry_after_s: what a transient refusal tells the caller.
    log_bytes: of a worker's own output that are kept.
    """

    calls_per_worker: int = 256
    input_bytes: int = 64 << 20
    ring_bytes: int = 64 << 20
    own_file_bytes: int = 8 << 20
    max_call_bytes: int = 1 << 30
    own_files: int = 8
    suspects_at_once: int = 1
    stall_floor_s: float = 5.0
    loading_floor_s: float = 10.0
    uncalibrated_stall_s: float = 60.0
    max_run_s: float = 60.0
    memory_limit_bytes: int | None = None
    watch_interval_s: float = 0.05
    start_timeout_s: float = 60.0
    load_timeout_s: float = 900.0
    stop_timeout_s: float = 10.0
    backoff_s: float = 0.1
    max_backoff_s: float = 30.0
    storm_deaths: int = 5
    retry_after_s: float = 0.1
    log_bytes: int = 256 << 10
