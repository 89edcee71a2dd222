"""A worker that lies: `python -m plumbline.testing.lying_worker LIES CHANNEL`.

LIES are names separated by commas; generation g tells the g-th of them, and behind the last one the truth. It
greets and loads as it should, and answers every job by the lie.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Callable

from plumbline.serving.workers import protocol
from plumbline.serving.workers.channel import WorkerChannel, die_with_parent
from plumbline.serving.workers.frames import FrameReader, write_frame
from plumbline.serving.workers.protocol import Outcome, Outcomes, TensorAt
from plumbline.serving.workers.region import SharedRegion
from plumbline.testing import worker_entry

__all__ = ["LIES", "main"]

_TIMES = (1, 2, 3, 4, 0, 1, 0)
_FP32, _INT64 = 11, 8
_METADATA = protocol.Metadata(
    "echo", "1", "model", [],
    [protocol.Tensor("y", "FP32", (-1,), ()), protocol.Tensor("pid", "INT64", (1,), ())],
    "", 0, "", 0, {},
)  # fmt: skip


def _outcome(
    region: SharedRegion,
    number: int,
    *,
    y: tuple[int, tuple[int, ...], int, int] = (_FP32, (2,), 0, 8),
    end: int = 128,
    names: tuple[str, ...] = ("y", "pid"),
) -> Outcome:
    kind, shape, offset, size = y
    start = region.ring_start
    places = [TensorAt("y", kind, shape, start + offset, size), TensorAt("pid", _INT64, (1,), start + 64, 8)]
    places = [TensorAt(name, *_rest(place)) for name, place in zip(names, places, strict=False)]
    return Outcome(number, places, end, _TIMES)


def _rest(place: TensorAt) -> tuple[int, tuple[int, ...], int, int]:
    return place.type, place.shape, place.offset, place.size


def _lie(**changes: object) -> Callable[[SharedRegion, int], bytes]:
    return lambda region, number: protocol.encode(
        Outcomes([_outcome(region, number, **changes)])  # type: ignore[arg-type]
    )


LIES: dict[str, Callable[[SharedRegion, int], bytes]] = {
    "garbage": lambda region, number: b"\xc1\x00garbage" * 50,
    "empty": lambda region, number: b"",
    "large": lambda region, number: b"\x00" * (protocol.MAX_MESSAGE_BYTES + 1),
    "other-number": lambda region, number: protocol.encode(Outcomes([_outcome(region, number + 7)])),
    "greets-again": lambda region, number: protocol.encode(protocol.Hello(1, 1, 1)),
    "loads-unasked": lambda region, number: protocol.encode(protocol.Loaded(99)),
    "before-the-ring": _lie(y=(_FP32, (2,), -4096, 8)),
    "behind-the-ring": _lie(y=(_FP32, (2,), 1 << 40, 8)),
    "behind-its-room": _lie(y=(_FP32, (64,), 0, 256)),
    "ends-far": _lie(end=1 << 62),
    "ends-before": _lie(end=-64),
    "size-of-other-shape": _lie(y=(_FP32, (3,), 0, 8)),
    "datatype-undeclared": _lie(y=(_INT64, (1,), 0, 8)),
    "datatype-unknown": _lie(y=(200, (2,), 0, 8)),
    "axes-undeclared": _lie(y=(_FP32, (1, 2), 0, 8)),
    "extent-negative": _lie(y=(_FP32, (-2,), 0, 8)),
    "extent-huge": _lie(y=(_FP32, (1 << 62,), 0, 8)),
    "name-unknown": _lie(names=("z", "pid")),
    "name-twice": _lie(names=("y", "y")),
    "output-missing": _lie(names=("y",)),
    "file-absent": _lie(end=0),
}


def main() -> int:
    """Serve, untruthfully."""
    channel = WorkerChannel.from_arguments(sys.argv[1:])
    lies = sys.argv[1].split(",")
    if channel.generation > len(lies):
        return worker_entry.main()
    die_with_parent(channel.parent_pid)
    region = SharedRegion.attach(channel.region)
    control = socket.socket(fileno=channel.control)
    frames = FrameReader(control, protocol.MAX_MESSAGE_BYTES)
    _send(control, protocol.encode(protocol.Hello(protocol.SCHEMA_VERSION, os.getpid(), channel.generation)))
    while True:
        select.select((control,), (), ())
        for frame in frames.read():
            _answer(control, region, protocol.decode_to_worker(frame), LIES[lies[channel.generation - 1]])


def _send(control: socket.socket, message: bytes) -> None:
    write_frame(control, message, lambda: False, 1.0)


def _answer(
    control: socket.socket,
    region: SharedRegion,
    message: protocol.ToWorker,
    lie: Callable[[SharedRegion, int], bytes],
) -> None:
    if isinstance(message, protocol.Load):
        _send(control, protocol.encode(protocol.Loaded(message.handle, _METADATA)))
    elif isinstance(message, protocol.Jobs):
        for job in message.jobs:
            _send(control, lie(region, job.number))
    elif isinstance(message, protocol.Stop):
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
