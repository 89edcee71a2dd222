"""The way out of a worker: no outcome stays behind, whoever sends at the same time."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import zmq

from plumbline.contracts.inference import InferenceResult, InferenceTiming
from plumbline.serving.workers import protocol
from plumbline.serving.workers.region import SharedRegion
from plumbline.serving.workers.sending import OutcomeSender
from plumbline.testing.worker_pools import ECHO, call


def result(request: str) -> InferenceResult:
    return InferenceResult(id=call(request).id, served_by=ECHO, outputs={}, timing=InferenceTiming())


class _SlowSocket:
    """Holds the sender inside its first send until told."""

    def __init__(self, wrapped: object) -> None:
        self._wrapped = wrapped
        self.inside, self.go_on = threading.Event(), threading.Event()

    def send(self, data: bytes) -> None:
        self.inside.set()
        self.go_on.wait(10.0)
        self._wrapped.send(data)  # type: ignore[attr-defined]

    def close(self) -> None:
        self._wrapped.close()  # type: ignore[attr-defined]


def test_an_outcome_that_finds_the_socket_taken_is_sent_by_who_has_it(tmp_path: Path) -> None:
    """L4-72: an answer to a load is being sent on one thread while the engine completes a call on another."""
    region = SharedRegion.create(generation=1, input_bytes=4096, ring_bytes=4096)
    files, other = socket.socketpair()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    receiver = context.socket(zmq.PULL)
    receiver.setsockopt(zmq.RCVTIMEO, 10_000)
    receiver.bind(f"ipc://{tmp_path}/out")
    sender = OutcomeSender(f"ipc://{tmp_path}/out", region, files, lambda: False)
    slow = _SlowSocket(sender._socket)
    sender._socket = slow  # type: ignore[assignment]
    loading = threading.Thread(target=sender.send, args=(protocol.Loaded(1),))
    loading.start()
    assert slow.inside.wait(10.0)
    sender.outcome(7, result("a"))
    slow.go_on.set()
    loading.join(10.0)
    assert isinstance(protocol.decode_from_worker(receiver.recv()), protocol.Loaded)
    outcomes = protocol.decode_from_worker(receiver.recv())
    assert isinstance(outcomes, protocol.Outcomes)
    assert [outcome.number for outcome in outcomes.outcomes] == [7]
    sender.close()
    context.destroy(linger=0)
    for end in (files, other):
        end.close()
    region.close()
