"""A process of our own that keeps one core busy, for the contended mode."""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import Self

__all__ = ["BusyCore"]


class BusyCore:
    """While the block runs, a child computes without pause; it is ended by its id."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def processes(self) -> tuple[int, ...]:
        """Process id of the child while it runs."""
        return () if self._child is None else (self._child.pid,)

    def __enter__(self) -> Self:
        self._child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self._child = None
