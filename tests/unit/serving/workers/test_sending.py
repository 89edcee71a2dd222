"""The way out of a worker: no outcome stays behind, whoever sends at the same time."""

from __future__ import annotations

import socket
import threading

from plumbline.contracts.inference import InferenceResult, InferenceTiming
from plumbline.serving.workers import protocol
from plumbline.serving.workers.frames import FrameReader, stream_pair
from plumbline.serving.workers.region import SharedRegion
from plumbline.serving.workers.sending import OutcomeSender
from plumbline.testing.worker_pools import ECHO, call


def result(request: str) -> InferenceResult:
    return InferenceResult(id=call(request).id, served_by=ECHO, outputs={}, timing=InferenceTiming())


class _SlowSocket:
    """Holds the sender inside its first send until told."""

    def __init__(self, wrapped: socket.socket) -> None:
        self._wrapped = wrapped
        self.inside, self.go_on = threading.Event(), threading.Event()

    def send(self, data: memoryview) -> int:
        self.inside.set()
        self.go_on.wait(60.0)
        return self._wrapped.send(data)


def test_an_outcome_that_finds_the_socket_taken_is_sent_by_who_has_it() -> None:
    """L4-72: an answer to a load is being sent on one thread while the engine completes a call on another."""
    region = SharedRegion.create(generation=1, input_bytes=4096, ring_bytes=4096)
    files, other = socket.socketpair()
    near, far = stream_pair()
    slow = _SlowSocket(near)
    sender = OutcomeSender(slow, region, files, lambda: False)  # type: ignore[arg-type]
    loading = threading.Thread(target=sender.send, args=(protocol.Loaded(1),))
    loading.start()
    assert slow.inside.wait(60.0)
    sender.outcome(7, result("a"))
    slow.go_on.set()
    loading.join(60.0)
    sender.close()
    first, second = FrameReader(far, protocol.MAX_MESSAGE_BYTES).read()
    assert isinstance(protocol.decode_from_worker(first), protocol.Loaded)
    outcomes = protocol.decode_from_worker(second)
    assert isinstance(outcomes, protocol.Outcomes)
    assert [outcome.number for outcome in outcomes.outcomes] == [7]
    for end in (files, other, near, far):
        end.close()
    region.close()
