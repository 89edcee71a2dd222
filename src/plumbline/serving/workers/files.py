"""Files of large calls over a Unix socket: a descriptor with the number of the call that it is for."""

from __future__ import annotations

import os
import socket
import struct

__all__ = ["receive_file", "receive_file_nowait", "send_file", "socket_pair"]

_NUMBER = struct.Struct("<q")


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends that keep messages apart."""
    kind = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM)
    try:
        return socket.socketpair(socket.AF_UNIX, kind)
    except OSError:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)


def send_file(to: socket.socket, number: int, descriptor: int) -> None:
    """Send a file; the sender may close it after.

    Raises:
        OSError: the other end is gone, or (not blocking) its queue is full.
    """
    socket.send_fds(to, [_NUMBER.pack(number)], [descriptor])


def receive_file(source: socket.socket, number: int, early: dict[int, int]) -> int:
    """The file of a call; files that come before it are kept in `early`.

    Raises:
        EOFError: the other end is gone.
    """
    while number not in early:
        if not _receive(source, early):
            raise EOFError("no file comes any more")
    return early.pop(number)


def receive_file_nowait(source: socket.socket, number: int, early: dict[int, int]) -> int | None:
    """The same on a socket that does not block; None when it has not come."""
    while number not in early:
        try:
            if not _receive(source, early):
                return None
        except (BlockingIOError, OSError):
            return None
    return early.pop(number)


def _receive(source: socket.socket, early: dict[int, int]) -> bool:
    message, descriptors, _, _ = socket.recv_fds(source, _NUMBER.size, 1)
    if not message:
        return False
    if len(message) != _NUMBER.size or len(descriptors) != 1:
        for descriptor in descriptors:
            os.close(descriptor)
        return True
    (number,) = _NUMBER.unpack(message)
    if number in early:
        os.close(early.pop(number))
    early[number] = descriptors[0]
    return True
