"""How many workers there should be. Pure; `autoscaler` applies it.

Up: more queued per worker than the bound, or a request older than the bound, by one worker at a time or as
many as the queue needs. Down: one worker after the load was low for a while. Between the two bounds nothing
happens, and after a change nothing happens for a while, so that the number does not swing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from plumbline.errors import ValidationError

__all__ = [
    "LoadSample",
    "ScalingDecision",
    "ScalingMemory",
    "ScalingPolicy",
    "ScalingPolicyRefused",
    "decide_scale",
]


@dataclass(eq=False, kw_only=True)
class ScalingPolicyRefused(ValidationError):
    """Bounds of the number of workers that cannot be."""

    code = "validation.scaling_policy"
    owner = "serving.models"
    template = "scaling: expected {expected}"

    expected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPolicy:
    """Bounds and thresholds.

    Attributes:
        min_workers: never fewer.
        max_workers: never more.
        high_per_worker: more accepted requests than this for each worker call for another.
        low_per_worker: fewer than this for each of the remaining workers let one go.
        max_age_ns: an unanswered request older than this calls for another worker; 0 does not look at ages.
        up_cooldown_ns: after a change, wait this long before growing.
        down_after_ns: before shrinking, the load must have been low for this long, and nothing have changed.

    Raises:
        ScalingPolicyRefused: the bounds contradict each other.
    """

    min_workers: int = 1
    max_workers: int = 1
    high_per_worker: float = 8.0
    low_per_worker: float = 1.0
    max_age_ns: int = 0
    up_cooldown_ns: int = 1_000_000_000
    down_after_ns: int = 30_000_000_000

    def __post_init__(self) -> None:
        if not 1 <= self.min_workers <= self.max_workers:
            raise ScalingPolicyRefused(expected="1 <= min_workers <= max_workers")
        if not 0 < self.low_per_worker < self.high_per_worker:
            raise ScalingPolicyRefused(expected="0 < low_per_worker < high_per_worker")
        if min(self.max_age_ns, self.up_cooldown_ns, self.down_after_ns) < 0:
            raise ScalingPolicyRefused(expected="times of 0 at least")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSample:
    """The load now.

    Attributes:
        workers: that there are or are being started.
        accepted: requests queued or running in them.
        oldest_age_ns: of an unanswered request, 0 without any.
    """

    workers: int
    accepted: int
    oldest_age_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingMemory:
    """What the next decision needs of the past, absolute monotonic nanoseconds or None."""

    changed_ns: int | None = None
    low_since_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingDecision:
    """How many workers, and why. `memory` goes into the next decision."""

    workers: int
    reason: str
    memory: ScalingMemory


def decide_scale(
    policy: ScalingPolicy, load: LoadSample, memory: ScalingMemory, now_ns: int
) -> ScalingDecision:
    """The number of workers from now on; equal to `load.workers` where nothing changes."""
    low_since = _low_since(policy, load, memory, now_ns)
    memory = replace(memory, low_since_ns=low_since)
    if not policy.min_workers <= load.workers <= policy.max_workers:
        wanted = min(max(load.workers, policy.min_workers), policy.max_workers)
        return _change(wanted, f"{load.workers} is outside of the bounds", now_ns)
    if (reason := _grow(policy, load)) and load.workers < policy.max_workers:
        if _waits(memory.changed_ns, policy.up_cooldown_ns, now_ns):
            return ScalingDecision(workers=load.workers, reason="the number changed just now", memory=memory)
        needed = -int(-load.accepted // policy.high_per_worker)
        wanted = min(max(load.workers + 1, needed), policy.max_workers)
        return _change(wanted, reason, now_ns)
    shrinks = low_since is not None and now_ns - low_since >= policy.down_after_ns
    if shrinks and not _waits(memory.changed_ns, policy.down_after_ns, now_ns):
        reason = f"{load.accepted} accepted, low for {policy.down_after_ns} ns"
        return _change(load.workers - 1, reason, now_ns)
    return ScalingDecision(workers=load.workers, reason="within bounds", memory=memory)


def _grow(policy: ScalingPolicy, load: LoadSample) -> str:
    if load.accepted > policy.high_per_worker * load.workers:
        return f"{load.accepted} accepted, above {policy.high_per_worker:g} for each of {load.workers}"
    if policy.max_age_ns and load.oldest_age_ns > policy.max_age_ns:
        return f"a request is {load.oldest_age_ns} ns old, above {policy.max_age_ns}"
    return ""


def _low_since(policy: ScalingPolicy, load: LoadSample, memory: ScalingMemory, now_ns: int) -> int | None:
    """Low means that one worker fewer would still have little to do."""
    if load.workers <= policy.min_workers or _grow(policy, load):
        return None
    if load.accepted >= policy.low_per_worker * (load.workers - 1) and load.accepted:
        return None
    return now_ns if memory.low_since_ns is None else memory.low_since_ns


def _waits(changed_ns: int | None, cooldown_ns: int, now_ns: int) -> bool:
    return changed_ns is not None and now_ns - changed_ns < cooldown_ns


def _change(workers: int, reason: str, now_ns: int) -> ScalingDecision:
    return ScalingDecision(workers=workers, reason=reason, memory=ScalingMemory(changed_ns=now_ns))
