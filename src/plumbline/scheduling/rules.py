"""The fingerprint of the rules: what a policy and the core decide, in one word (requirement L4-17).

A log can be decided again only by the rules that decided it. Which rules those were is told by what they do,
not by what their text looks like: a copy of the policy is examined over a fixed sequence of calls (arrivals
that overflow the queue, batches, bound streams, busy graphs, boundaries, cancellations, expiries), and the
fingerprint is the digest of the records that come out, with the state of the policy between them. So it stays
the same over another Python, another layout of the source, or a better comment, and changes with a key, an
order, a reason code or a layout of state. A change that the examination does not touch is found where replay
diverges. It is a name, not a signature: whoever may write a log may write any fingerprint.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass

from plumbline.contracts.records import START_DIGEST, Record, chain_digest, encode_record
from plumbline.contracts.requests import RequestId, TenantId
from plumbline.errors import ArtifactError, PlumblineError
from plumbline.scheduling.decisions import DecisionCore
from plumbline.scheduling.launch import Launch
from plumbline.scheduling.policy import SchedulingPolicy
from plumbline.scheduling.refusals import QueueFull
from plumbline.scheduling.request import BatchTerms, ExecutionRequest

__all__ = ["UNKNOWN", "RulesDiffer", "fingerprint_of", "verify_rules"]

UNKNOWN = ""
"""The fingerprint in logs that were written before there was one, and of a policy that cannot be copied."""

_EXAMINATION = "1"
"""Of the sequence below. Fingerprints of two examinations cannot be compared: unknown to each other."""
_TURNS = 320
_CAPACITY = 24
_STREAMS = 2
_DEFECTS = (ArithmeticError, AttributeError, LookupError, PlumblineError, RuntimeError, TypeError, ValueError)
"""What a policy of somebody else may raise over requests that it was not made for."""


@dataclass(eq=False, kw_only=True)
class RulesDiffer(ArtifactError):
    """A log was decided by other rules than those that are here, so it cannot be decided again here."""

    code = "artifact.other_rules"
    owner = "scheduling"
    template = (
        "record {record}: decided by policy {policy!r} with rules {logged}, here it has rules {here}; replay "
        "it with the version that wrote it"
    )

    record: int
    policy: str
    logged: str
    here: str


def fingerprint_of(policy: SchedulingPolicy) -> str:
    """The fingerprint of a policy together with the core that is here. Costs milliseconds.

    Args:
        policy: examined in a copy with the state of a new one; stays as it is.

    Returns:
        Number of the examination, a dash, 16 hexadecimal digits; `UNKNOWN` for a policy that no copy can be
        made of. A policy that raises on a request of the examination is told by where, and by what it raised.
    """
    examined = _fresh_copy(policy)
    if examined is None:
        return UNKNOWN
    digest = START_DIGEST
    for body in _examine(examined):
        digest = chain_digest(digest, body)
    return f"{_EXAMINATION}-{digest.hex()[:16]}"


def verify_rules(record: int, policy: SchedulingPolicy, logged: str) -> None:
    """Whether the rules that are here decided a log; nothing is said about one whose rules are unknown.

    Args:
        record: number of the snapshot that states them, for the message.
        policy: that would decide it again.
        logged: the fingerprint it states.

    Raises:
        RulesDiffer: with both fingerprints.
    """
    if logged.partition("-")[0] != _EXAMINATION:
        return
    here = fingerprint_of(policy)
    if here != logged:
        raise RulesDiffer(record=record, policy=policy.name[:100], logged=logged[:32], here=here or "unknown")


def _fresh_copy(policy: SchedulingPolicy) -> SchedulingPolicy | None:
    """A copy with the settings of this one; where a new one can be made, with the state of that."""
    try:
        copy = deepcopy(policy)
    except _DEFECTS:
        return None
    with suppress(*_DEFECTS):
        copy.restore(type(policy)().state())
    return copy


def _examine(policy: SchedulingPolicy) -> Iterator[bytes]:
    """Bodies of the records of a fixed run, and how it ended when it did not end well."""
    made: list[Record] = []
    run = _Run(DecisionCore(policy=policy, capacity=_CAPACITY, streams=_STREAMS, record=made.append))
    for turn in range(_TURNS):
        try:
            run.turn(turn)
            yield from [encode_record(record) for record in made]
        except (*_DEFECTS, OverflowError) as error:
            yield f"turn {turn}: {type(error).__name__}".encode()
            return
        made.clear()


class _Run:
    """The examination. Owns the time, the launches that go on, and a fixed sequence of numbers."""

    def __init__(self, core: DecisionCore) -> None:
        self._core = core
        self._now_ns = 0
        self._running: list[Launch] = []
        self._number = 0x2545F491

    def turn(self, turn: int) -> None:
        """Some arrivals, more and fewer by turns, then one thing that happens on a stream."""
        self._now_ns += 1 + self._draw(4000)
        for arrival in range(self._draw(4) if turn // 40 % 2 else self._draw(2)):
            with suppress(QueueFull):
                self._core.submit(self._request(f"{turn}.{arrival}"), self._now_ns)
        self._happen(turn)
        if turn % 50 == 49:
            self._remember()

    def _happen(self, turn: int) -> None:
        core, now_ns = self._core, self._now_ns
        match self._draw(8):
            case 0:
                core.cancel(f"{self._draw(turn + 1)}.0", now_ns)
            case 1:
                core.expire(now_ns)
            case 2 | 3 if self._running:
                launch = self._running.pop(0)
                core.finish(launch.number, now_ns, {request.id: "ok" for request in launch.requests})
            case 4 if self._running:
                launch = self._running[-1]
                core.boundary(launch.number, 1, now_ns)
                self._select(launch.stream, launch.key)
            case _:
                self._select(self._draw(_STREAMS), None)

    def _select(self, stream: int, above: tuple[int, ...] | None) -> None:
        busy = ("graph-1@1",) if self._draw(4) == 0 else ()
        found = self._core.select(stream, self._now_ns, busy=busy, above=above)
        if isinstance(found, Launch):
            self._core.launched(found.number, self._now_ns)
            self._running.append(found)

    def _remember(self) -> None:
        """The state is part of the rules: a snapshot of other rules cannot be taken back."""
        record = self._core.record
        if record is not None:
            record(self._core.snapshot_record(self._now_ns))

    def _request(self, name: str) -> ExecutionRequest:
        now_ns, graph = self._now_ns, f"graph-{self._draw(3)}@1"
        cost_ns = (0, 700, 3000)[self._draw(3)]
        return ExecutionRequest(
            id=RequestId(name),
            graph=graph,
            tenant=TenantId(f"tenant-{self._draw(4)}"),
            priority=self._draw(10),
            arrived_ns=now_ns,
            deadline_ns=self._later(200_000),
            start_by_ns=self._later(60_000),
            cost_bound_ns=cost_ns,
            segment_bounds_ns=(cost_ns // 2, cost_ns - cost_ns // 2) if self._draw(2) else (),
            period_ns=(None, 10_000, 40_000)[self._draw(3)],
            stream=(None, None, 0, 1)[self._draw(4)],
            batch=self._terms(graph),
        )

    def _later(self, most_ns: int) -> int | None:
        after_ns = 1000 + self._draw(most_ns)
        return self._now_ns + after_ns if self._draw(2) else None

    def _terms(self, graph: str) -> BatchTerms | None:
        units, delay_ns = 1 + self._draw(3), (0, 0, 30_000)[self._draw(3)]
        if self._draw(3) == 0:
            return None
        return BatchTerms(key=graph, units=units, max_units=6, max_requests=4, max_delay_ns=delay_ns)

    def _draw(self, below: int) -> int:
        """The next number, 0 or more: a linear congruence (Knuth, volume 2, section 3.3.4)."""
        self._number = (self._number * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self._number >> 33) % below
