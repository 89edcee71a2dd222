"""Frames between gateway and worker: whatever pieces the socket makes of them, the same messages come out."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from plumbline.serving.workers.frames import FrameReader, FrameTooLong, LoopWriter, stream_pair, write_frame

LIMIT = 1 << 20


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = stream_pair()
    yield ends
    for end in ends:
        end.close()


def frame(message: bytes) -> bytes:
    return struct.pack("<I", len(message)) + message


class Watch:
    """What an event loop would be told."""

    def __init__(self) -> None:
        self.go_on: Callable[[], None] | None = None

    def when_writable(self, go_on: Callable[[], None]) -> None:
        self.go_on = go_on

    def unwatch(self) -> None:
        self.go_on = None


def read_all(reader: FrameReader) -> list[bytes]:
    messages: list[bytes] = []
    try:
        while True:
            messages += [bytes(message) for message in reader.read()]
    except BlockingIOError:
        return messages


@pytest.mark.parametrize("seed", range(20))
def test_frames_come_out_whole_however_they_are_cut(seed, pair):
    """L4-72: control messages keep their order and their bounds."""
    near, far = pair
    draw = random.Random(seed)
    sent = [draw.randbytes(draw.choice((0, 1, 3, 4, 5, 100, 5000))) for _ in range(30)]
    stream = b"".join(map(frame, sent))
    reader, came = FrameReader(far, LIMIT), []
    while stream:
        cut = draw.choice((1, 2, 3, 7, 50, 4000, len(stream)))
        near.sendall(stream[:cut])
        stream = stream[cut:]
        came += read_all(reader)
    assert came == sent


def test_a_frame_over_the_limit_is_refused_before_it_is_kept(pair):
    """X-33: what the other end announces is not what this one allocates."""
    near, far = pair
    near.sendall(struct.pack("<I", LIMIT + 1) + b"x" * 100)
    with pytest.raises(FrameTooLong, match=str(LIMIT)):
        FrameReader(far, LIMIT).read()


def test_a_closed_end_is_told_after_what_it_had_sent(pair):
    near, far = pair
    near.sendall(frame(b"last") + b"\x09\x00")
    near.close()
    reader = FrameReader(far, LIMIT)
    assert [bytes(message) for message in reader.read()] == [b"last"]
    with pytest.raises(EOFError):
        reader.read()


def test_what_the_socket_does_not_take_follows_in_order(pair):
    """L4-72: a worker that does not read loses nothing and holds nobody up."""
    near, far = pair
    watch = Watch()
    writer = LoopWriter(near, watch.when_writable, watch.unwatch)
    sent = [bytes([number % 251]) * 50_000 for number in range(100)]
    for message in sent:
        writer.write(message)
    assert watch.go_on is not None
    reader, came = FrameReader(far, LIMIT), []
    while len(came) < len(sent):
        came += read_all(reader)
        if watch.go_on is not None:
            watch.go_on()
    assert came == sent
    assert watch.go_on is None


def test_writing_to_a_closed_end_is_harmless(pair):
    """L4-73: the end of a worker is learnt from its process, and its calls are sent elsewhere then."""
    near, far = pair
    far.close()
    watch = Watch()
    writer = LoopWriter(near, watch.when_writable, watch.unwatch)
    writer.write(b"lost")
    write_frame(near, b"lost", lambda: False, 0.01)
    assert watch.go_on is None


def test_a_writer_that_may_wait_waits_until_the_frame_is_taken(pair):
    near, far = pair
    message = b"m" * 5_000_000
    writing = threading.Thread(target=write_frame, args=(near, message, lambda: False, 0.01))
    writing.start()
    reader, came = FrameReader(far, 8 << 20), []
    while not came:
        came += read_all(reader)
    writing.join(60.0)
    assert came == [message]


def test_a_writer_ends_its_wait_when_it_is_over(pair):
    """L4-73: a worker without a gateway does not stay."""
    near, _ = pair
    write_frame(near, b"m" * 5_000_000, lambda: True, 0.01)
