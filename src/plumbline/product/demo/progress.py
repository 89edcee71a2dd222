"""Progress of one stage: a bar or a spinner on a terminal, nothing else where nobody is watching."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

__all__ = ["watched"]


@contextmanager
def watched(console: Console, label: str, *, counted: bool = False) -> Iterator[Callable[..., Any]]:
    """Show a stage while it runs.

    Args:
        console: where to show it.
        label: the stage.
        counted: whether the given function takes `(done, total)`; else it takes the name of a part.
    """
    if not console.is_terminal:
        console.print(f"{label} ...", markup=False)
        yield lambda *parts: None
        return
    columns = [SpinnerColumn(), TextColumn("{task.description}")]
    columns += [BarColumn(), MofNCompleteColumn()] if counted else []
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task(label, total=None)
        if counted:
            yield lambda done, total: progress.update(task, completed=done, total=total)
        else:
            yield lambda part: progress.update(task, description=f"{label}: {part}")
