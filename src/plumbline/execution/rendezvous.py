"""How the local processes of a group meet: shared memory, and a barrier that notices a death.

Rank 0 is the hub: every other rank has one socket to it. A barrier is one message from each rank to the hub
and one answer. A process that ends closes its socket, so the hub knows at once and tells the others who is
lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import sys
import tempfile
import time
import zlib
from dataclasses import asdict, dataclass
from typing import Self

from plumbline.errors import BackendError, ValidationError

MAX_RANKS = 64
_MESSAGE = struct.Struct("<qqq")
_NOBODY = -1
_MISMATCH = -2


@dataclass(eq=False, kw_only=True)
class PeerLostError(BackendError):
    """A process of the group ended, or was silent for too long. The group cannot be used any more."""

    code = "backend.peer_lost"
    owner = "execution"
    template = "rank {lost_rank} was lost in {operation} ({reason})"

    lost_rank: int
    operation: str
    reason: str


@dataclass(eq=False, kw_only=True)
class CollectiveMismatchError(ValidationError):
    """The ranks called different collectives, or with different element types or sizes."""

    code = "validation.collective_mismatch"
    owner = "execution"
    template = "the ranks of the group did not all call {operation}"

    operation: str


@dataclass(eq=False, kw_only=True)
class GroupSizeError(ValidationError):
    """A group needs 1 to 64 ranks and at least one byte for each."""

    code = "validation.group_size"
    owner = "execution"
    template = "a group of {size} ranks with {slot_bytes} bytes each is not possible"

    size: int
    slot_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTicket:
    """What one process needs to join: its rank and the file descriptors that it must inherit."""

    rank: int
    size: int
    slot_bytes: int
    memory: int
    sockets: tuple[int, ...]

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Descriptors to hand to a child process (`pass_fds`)."""
        return (self.memory, *self.sockets)

    def to_text(self) -> str:
        """A text form for a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> GroupTicket:
        """Read the text form."""
        document = json.loads(text)
        return cls(**{**document, "sockets": tuple(document["sockets"])})


class Rendezvous:
    """Makes the tickets of one group and owns the descriptors in the process that starts the ranks.

    Keep it open until every rank was started, then close it: a rank's death is seen only when no other
    process holds its socket. A forked child calls `keep_only(rank)` first.
    """

    def __init__(self, *, size: int, slot_bytes: int) -> None:
        if not 1 <= size <= MAX_RANKS or slot_bytes < 1:
            raise GroupSizeError(size=size, slot_bytes=slot_bytes)
        slot_bytes = -(-slot_bytes // 64) * 64
        memory = _shared_file(slot_bytes * (size + 1))
        pairs = [socket.socketpair() for _ in range(size - 1)]
        hub = tuple(pair[0].detach() for pair in pairs)
        spokes = [(pair[1].detach(),) for pair in pairs]
        self.tickets = tuple(
            GroupTicket(rank=rank, size=size, slot_bytes=slot_bytes, memory=memory, sockets=sockets)
            for rank, sockets in enumerate([hub, *spokes])
        )
        self._open = {memory, *hub, *(spoke[0] for spoke in spokes)}

    def keep_only(self, rank: int) -> GroupTicket:
        """In a forked child: close every descriptor that is not of `rank` and give its ticket."""
        ticket = self.tickets[rank]
        for descriptor in self._open - set(ticket.descriptors):
            os.close(descriptor)
        self._open = set()
        return ticket

    def close(self) -> None:
        """Close the starting process's copies of all descriptors."""
        for descriptor in self._open:
            os.close(descriptor)
        self._open = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _shared_file(size_bytes: int) -> int:
    if sys.platform == "linux":
        descriptor = os.memfd_create("plumbline group")
    else:
        descriptor, path = tempfile.mkstemp()
        os.unlink(path)
    os.ftruncate(descriptor, size_bytes)
    return descriptor


class Barrier:
    """Meets the other ranks. Owns the sockets of one rank.

    A call returns, or raises, within `2 * timeout_s`: the hub waits `timeout_s` for the others, they wait
    twice as long for the hub's answer.
    """

    def __init__(self, ticket: GroupTicket, timeout_s: float) -> None:
        self._rank = ticket.rank
        self._timeout_s = timeout_s
        self._sockets = [socket.socket(fileno=descriptor) for descriptor in ticket.sockets]
        self._generation = 0
        self._lost: PeerLostError | None = None

    def meet(self, operation: str) -> None:
        """Return when every rank has called this with the same `operation`.

        Raises:
            PeerLostError: a rank ended or was silent; every later call raises at once.
            CollectiveMismatchError: a rank called something else.
        """
        if self._lost is not None:
            raise PeerLostError(
                lost_rank=self._lost.lost_rank, operation=operation, reason="the group is broken"
            )
        self._generation += 1
        try:
            verdict = self._meet_as_hub(operation) if self._rank == 0 else self._meet_as_spoke(operation)
        except PeerLostError as error:
            self._lost = error
            raise
        if verdict == _MISMATCH:
            raise CollectiveMismatchError(operation=operation)

    def _meet_as_hub(self, operation: str) -> int:
        deadline = time.monotonic() + self._timeout_s
        expected = _MESSAGE.pack(self._generation, _NOBODY, _fingerprint(operation))
        verdict = _NOBODY
        for rank, peer in enumerate(self._sockets, start=1):
            try:
                message = _receive(peer, deadline)
            except _SilentPeerError as silence:
                self._answer(rank, operation)
                reason = str(silence)
                raise PeerLostError(lost_rank=rank, operation=operation, reason=reason) from None
            if message != expected:
                verdict = _MISMATCH
        self._answer(verdict, operation)
        return verdict

    def _answer(self, verdict: int, operation: str) -> None:
        message = _MESSAGE.pack(self._generation, verdict, _fingerprint(operation))
        for peer in self._sockets:
            with contextlib.suppress(OSError):  # a dead peer is noticed when it is waited for
                peer.sendall(message)

    def _meet_as_spoke(self, operation: str) -> int:
        hub = self._sockets[0]
        try:
            hub.sendall(_MESSAGE.pack(self._generation, _NOBODY, _fingerprint(operation)))
            message = _receive(hub, time.monotonic() + 2 * self._timeout_s)
        except (_SilentPeerError, OSError) as silence:
            raise PeerLostError(lost_rank=0, operation=operation, reason=str(silence)) from None
        verdict: int = _MESSAGE.unpack(message)[1]
        if verdict >= 0:
            reason = "reported by rank 0"
            raise PeerLostError(lost_rank=verdict, operation=operation, reason=reason)
        return verdict

    def close(self) -> None:
        """Close the sockets; the other ranks see this rank as lost if they wait for it."""
        for peer in self._sockets:
            peer.close()


class _SilentPeerError(Exception):
    """A peer closed its socket or did not answer; used inside this module only."""


def _receive(peer: socket.socket, deadline: float) -> bytes:
    data = b""
    while len(data) < _MESSAGE.size:
        remaining = deadline - time.monotonic()
        ready = select.select([peer], [], [], max(0.0, remaining))[0]
        if not ready:
            raise _SilentPeerError("it was silent for too long")
        try:
            part = peer.recv(_MESSAGE.size - len(data))
        except OSError:
            part = b""
        if not part:
            raise _SilentPeerError("its process ended")
        data += part
    return data


def _fingerprint(operation: str) -> int:
    return zlib.crc32(operation.encode())
