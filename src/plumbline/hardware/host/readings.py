"""How facts are read: a kernel file or a checked system call. A missing fact is None, never a guess."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path


def read_text(path: Path) -> str | None:
    """Content of a small kernel file without surrounding blanks; None when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def read_first_integer(*paths: Path) -> int | None:
    """The integer in the first of these files that holds one; None when none does."""
    for path in paths:
        text = read_text(path)
        if text is not None and text.isdigit():
            return int(text)
    return None


def parse_size(text: str | None) -> int | None:
    """Bytes of a size such as `32K` or `8M`; None when it is not one.

    >>> parse_size("32K"), parse_size("x")
    (32768, None)
    """
    if not text:
        return None
    scale = {"K": 1024, "M": 1024**2, "G": 1024**3}.get(text[-1].upper())
    digits = text[:-1] if scale else text
    return int(digits) * (scale or 1) if digits.isdigit() else None


def parse_cpu_list(text: str | None) -> tuple[int, ...]:
    """Processor numbers of a list such as `0-2,5`; empty when it cannot be read.

    >>> parse_cpu_list("0-2,5")
    (0, 1, 2, 5)
    """
    numbers: list[int] = []
    for part in (text or "").split(","):
        first, _, last = part.strip().partition("-")
        if first.isdigit() and (last or first).isdigit():
            numbers.extend(range(int(first), int(last or first) + 1))
    return tuple(numbers)


def sysctl_integer(name: str) -> int | None:
    """An integer that macOS reports under `name`; None elsewhere or when the call fails."""
    data = _sysctl(name, 8)
    return int.from_bytes(data, "little") if data is not None else None


def sysctl_text(name: str) -> str | None:
    """A text that macOS reports under `name`; None elsewhere or when the call fails."""
    data = _sysctl(name, 256)
    return data.split(b"\0")[0].decode("utf-8", "replace") if data is not None else None


def _sysctl(name: str, size_bytes: int, platform: str = sys.platform) -> bytes | None:
    if platform != "darwin":
        return None
    library = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(size_bytes)
    size = ctypes.c_size_t(size_bytes)
    status = library.sysctlbyname(name.encode(), buffer, ctypes.byref(size), None, ctypes.c_size_t(0))
    return buffer.raw[: size.value] if status == 0 else None
