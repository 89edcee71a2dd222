"""The shared file of a generation: ring positions of both sides agree, and nothing is overwritten unread."""

from __future__ import annotations

import os
import random

import pytest

from plumbline.serving.workers.region import HEADER_BYTES, Field, SharedRegion


def never() -> bool:
    return False


def pair(ring_bytes: int = 1024) -> tuple[SharedRegion, SharedRegion]:
    gateway = SharedRegion.create(generation=3, input_bytes=4096, ring_bytes=ring_bytes)
    return gateway, SharedRegion.attach(os.dup(gateway.descriptor))


def test_a_worker_attaches_to_what_the_gateway_made() -> None:
    gateway, worker = pair()
    assert worker.header[Field.GENERATION] == 3
    assert (worker.input_bytes, worker.ring_bytes) == (4096, 1024)
    assert worker.ring_start == HEADER_BYTES + 4096
    gateway.memory[HEADER_BYTES] = 77
    assert worker.memory[HEADER_BYTES] == 77
    gateway.close()
    gateway.close()
    worker.close()


def test_a_file_of_another_layout_is_refused() -> None:
    descriptor = os.memfd_create("other")
    os.ftruncate(descriptor, 8192)
    with pytest.raises(ValueError, match="layout"):
        SharedRegion.attach(descriptor)
    os.close(descriptor)


def test_both_sides_of_the_ring_agree_on_every_room() -> None:
    """L4-72: the gateway derives from the end alone what the worker reserved."""
    gateway, worker = pair()
    dice = random.Random(5)
    position = 0
    for _ in range(2000):
        size = dice.choice((0, 64, 128, 192, 256))
        room = worker.reserve(size, never, lambda: None)
        assert room is not None
        offset, end = room
        seen = gateway.ring_room(position, end)
        assert seen == (offset, offset + size) or size == 0
        assert gateway.ring_start <= offset <= offset + size <= gateway.ring_start + 1024
        position = end
        gateway.consume(position)


def test_a_full_ring_waits_until_outputs_are_copied() -> None:
    gateway, worker = pair()
    first = worker.reserve(1024, never, lambda: None)
    assert first is not None
    waited: list[str] = []
    asked = iter((False, False, True))

    def is_over() -> bool:
        over = next(asked)
        if not over:
            waited.append("asked")
        return over

    assert worker.reserve(64, is_over, lambda: waited.append("sent")) is None
    assert waited == ["sent", "asked", "asked"]
    gateway.consume(first[1])
    assert worker.reserve(64, never, lambda: None) is not None


@pytest.mark.parametrize("end", [-1, 1025, 1 << 62])
def test_an_end_outside_of_the_ring_has_no_room(end: int) -> None:
    gateway, _ = pair()
    assert gateway.ring_room(0, end) is None
