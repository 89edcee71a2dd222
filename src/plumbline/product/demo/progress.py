"""Progress of one stage on standard error: a bar on a terminal, one line where nobody is watching."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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

_COUNTED = re.compile(r"(\d+) of (\d+)")


@contextmanager
def watched(console: Console, label: str) -> Iterator[Callable[[str], None]]:
    """Show a stage while it runs.

    Args:
        console: where to show it.
        label: the stage.

    Yields:
        A function that takes the name of a part; `n of m` in it moves the bar.
    """
    if not console.is_terminal:
        console.print(f"{label} ...", markup=False)
        yield lambda part: None
        return
    columns = (
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=None)

        def show(part: str) -> None:
            counted = _COUNTED.search(part)
            done, total = (int(counted[1]), int(counted[2])) if counted else (0, None)
            name = part.split(":")[0]
            progress.update(task, description=f"{label}: {name}", completed=done, total=total)

        yield show
