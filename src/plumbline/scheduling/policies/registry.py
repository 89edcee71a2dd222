"""Policies by name (requirements L4-05, X-70): ours, those of installed packages, and `module:Class`.

A package offers one through the entry point group `plumbline.scheduling_policies`; the name there is the name
that is asked for. A name of ours cannot be taken over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from plumbline.errors import ValidationError
from plumbline.scheduling.policies.earliest_deadline_first import EarliestDeadlineFirstPolicy
from plumbline.scheduling.policies.fair import FairPolicy
from plumbline.scheduling.policies.fifo import FifoPolicy
from plumbline.scheduling.policies.priority import PriorityPolicy
from plumbline.scheduling.policies.rate_monotonic import RateMonotonicPolicy
from plumbline.scheduling.policy import SchedulingPolicy

__all__ = ["GROUP", "PolicyUnknown", "PolicyUnusable", "open_policy", "policy_names", "policy_opener"]

GROUP = "plumbline.scheduling_policies"

_OURS: dict[str, Callable[[], SchedulingPolicy]] = {
    FifoPolicy.name: FifoPolicy,
    PriorityPolicy.name: PriorityPolicy,
    FairPolicy.name: FairPolicy,
    EarliestDeadlineFirstPolicy.name: EarliestDeadlineFirstPolicy,
    RateMonotonicPolicy.name: RateMonotonicPolicy,
}
_ALSO = {"earliest_deadline_first": EarliestDeadlineFirstPolicy.name, "rm": RateMonotonicPolicy.name}
_MEMBERS = ("enter", "leave", "reason", "compare", "state", "restore")


@dataclass(eq=False, kw_only=True)
class PolicyUnknown(ValidationError):
    """No policy of this name."""

    code = "validation.policy_unknown"
    owner = "scheduling"
    template = "no scheduling policy {name!r}; there are {known}, or module:Class"

    name: str
    known: str


@dataclass(eq=False, kw_only=True)
class PolicyUnusable(ValidationError):
    """Something was found under the name that is not a policy."""

    code = "validation.policy_unusable"
    owner = "scheduling"
    template = "scheduling policy {name!r}: {reason}"

    name: str
    reason: str


def policy_names() -> tuple[str, ...]:
    """Names that `open_policy` takes: ours, then those of installed packages."""
    return (*_OURS, *sorted(set(_installed()) - set(_OURS)))


def open_policy(name: str) -> SchedulingPolicy:
    """A fresh policy.

    Args:
        name: of the policy, or `module:Class`.

    Raises:
        PolicyUnknown: nothing of that name; the message lists the names.
        PolicyUnusable: it cannot be imported or made, or lacks members of `SchedulingPolicy`.
    """
    ours = _OURS.get(_ALSO.get(name, name))
    if ours is not None:
        return ours()
    if ":" in name:
        module, _, attribute = name.partition(":")
        return _made(name, lambda: getattr(import_module(module), attribute))
    entry = _installed().get(name)
    if entry is None:
        raise PolicyUnknown(name=name[:100], known=", ".join(policy_names()))
    return _made(name, entry.load)


def policy_opener(given: str | None) -> Callable[[str], SchedulingPolicy]:
    """`open_policy` for the names in a log, which also knows the policy that was given as `module:Class`.

    A log names a policy as it calls itself and is never believed where its code is: who replays says that.

    Args:
        given: as to `open_policy`; None for none.

    Raises:
        PolicyUnknown, PolicyUnusable: as `open_policy`.
    """
    if given is None:
        return open_policy
    name = open_policy(given).name
    return lambda logged: open_policy(given if logged == name else logged)


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _made(name: str, load: Callable[[], Any]) -> SchedulingPolicy:
    try:
        policy = load()()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise PolicyUnusable(name=name[:100], reason=f"{type(error).__name__}: {error}"[:200]) from error
    missing = [m for m in _MEMBERS if not callable(getattr(policy, m, None))]
    if not isinstance(getattr(policy, "name", None), str):
        missing.insert(0, "name")
    if missing:
        raise PolicyUnusable(name=name[:100], reason=f"it lacks {', '.join(missing)}")
    found: SchedulingPolicy = policy
    return found
