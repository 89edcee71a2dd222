"""Stages of a build, timed, and shown where someone is watching for more than a moment."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

__all__ = ["StageProgress", "counted_progress"]


class StageProgress:
    """Times stages; while one runs, a spinner on standard error names it if that is a terminal.

    Args:
        quiet: show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.seconds: dict[str, float] = {}
        self._stage, self._began = "", 0.0
        self._status: Any = None
        self._shown = not quiet and sys.stderr.isatty()

    def start(self, stage: str) -> None:
        """End the running stage and begin another."""
        self.stop()
        self._stage, self._began = stage, time.perf_counter()
        if self._shown:
            self._show(stage)

    def stop(self) -> None:
        """End the running stage."""
        if self._stage:
            spent = time.perf_counter() - self._began
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + spent
        self._stage = ""

    def write(self, line: str) -> None:
        """A line on standard error, above the spinner where there is one."""
        if self._status is None:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        else:
            self._status.console.print(line, markup=False, highlight=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _show(self, stage: str) -> None:
        if self._status is None:
            from rich.console import Console

            self._status = Console(stderr=True).status(stage)
            self._status.start()
        self._status.update(stage)


@contextmanager
def counted_progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error; call what it gives with the number done and the total."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
