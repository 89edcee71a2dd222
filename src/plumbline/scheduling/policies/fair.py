"""Fair between tenants, by cost (requirement L4-08): start-time fair queueing.

After P. Goyal, H. M. Vin, H. Cheng, "Start-time Fair Queueing", SIGCOMM 1996, section 2, with equal weights.
A request gets as start tag the larger of the virtual time and the finish tag of the request of its tenant
before it; its finish tag is the start tag plus its cost; the lowest start tag goes first; virtual time is the
start tag of the request that was selected last.

Bound: over any interval in which two tenants always have something queued that could run, the costs selected
for the one and for the other differ by at most the sum of the largest cost of each (the paper's theorem 1).
Requests that share a launch are selected in one step, so the bound then grows by the cost of a launch.

Where we differ: a tenant whose queued requests were all cancelled or expired is taken back to the finish tag
of what it really ran; and when the queue is empty, virtual time moves to the largest finish tag and everybody
is forgotten, so memory is bounded by the tenants in the queue.
"""

from __future__ import annotations

from typing import Any, ClassVar

from plumbline.scheduling.policy import Key
from plumbline.scheduling.request import ExecutionRequest

__all__ = ["DEFAULT_COST_NS", "FairPolicy"]

DEFAULT_COST_NS = 1_000_000
"""Stands for the cost of a request that nobody has calibrated: 1 ms."""

_NOBODY = (0, 0, 0)


class FairPolicy:
    """Key: (start tag, arrival). Owns the tags of the tenants that have something queued."""

    name: ClassVar[str] = "fair"
    starves: ClassVar[bool] = False
    starvation: ClassVar[str] = (
        "nobody waits for ever: the requests of a tenant go in order of arrival, and other tenants only get "
        "as much cost in the meantime"
    )

    def __init__(self) -> None:
        self._virtual_ns = 0
        self._tenants: dict[str, tuple[int, int, int]] = {}
        """Tenant -> queued requests, finish tag of the last queued, finish tag of the last selected."""
        self._queued = 0

    def enter(self, request: ExecutionRequest, arrival: int) -> Key:
        """The start tag, then arrival."""
        queued, tagged_ns, served_ns = self._tenants.get(request.tenant, _NOBODY)
        start_ns = max(self._virtual_ns, tagged_ns)
        self._tenants[request.tenant] = (queued + 1, start_ns + _cost_ns(request), served_ns)
        self._queued += 1
        return (start_ns, arrival)

    def leave(self, request: ExecutionRequest, key: Key, *, selected: bool) -> None:
        """Virtual time follows what was selected; who has nothing queued keeps what it really used."""
        queued, tagged_ns, served_ns = self._tenants[request.tenant]
        if selected:
            self._virtual_ns = max(self._virtual_ns, key[0])
            served_ns = max(served_ns, key[0] + _cost_ns(request))
        if queued == 1:
            tagged_ns = served_ns
        self._tenants[request.tenant] = (queued - 1, tagged_ns, served_ns)
        self._queued -= 1
        self._forget()

    def reason(self, request: ExecutionRequest, key: Key) -> str:
        """Its tenant and start tag."""
        return (
            f"tenant {request.tenant!r} had the lowest start tag of those that could run ({key[0] / 1e6:.3f} "
            "virtual ms)"
        )

    def compare(self, winner: Key, loser: Key) -> str:
        """Both start tags."""
        if winner[0] == loser[0]:
            return f"equal start tag, it arrived later (arrival {loser[-1]} after {winner[-1]})"
        return (
            f"its tenant has had more: start tag {loser[0] / 1e6:.3f} virtual ms against "
            f"{winner[0] / 1e6:.3f}"
        )

    def state(self) -> dict[str, Any]:
        """Virtual time and the tags of the tenants."""
        tenants = {name: list(self._tenants[name]) for name in sorted(self._tenants)}
        return {"virtual_ns": self._virtual_ns, "queued": self._queued, "tenants": tenants}

    def restore(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self._virtual_ns, self._queued = state["virtual_ns"], state["queued"]
        self._tenants = {name: (row[0], row[1], row[2]) for name, row in state["tenants"].items()}

    def _forget(self) -> None:
        if self._queued == 0:
            self._virtual_ns = max([self._virtual_ns, *(row[2] for row in self._tenants.values())])
            self._tenants.clear()
        elif len(self._tenants) > 2 * self._queued + 64:
            self._tenants = {
                name: row for name, row in self._tenants.items() if row[0] or row[2] > self._virtual_ns
            }


def _cost_ns(request: ExecutionRequest) -> int:
    return request.cost_bound_ns or DEFAULT_COST_NS
