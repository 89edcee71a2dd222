"""Questions and answers on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from plumbline.product.demo.search import Hit, SearchIndex

__all__ = ["ask_until_done", "show_hits"]

SHOWN = 96
"""Characters of a passage that are shown."""


def show_hits(console: Console, question: str, hits: Sequence[Hit]) -> None:
    """Print a question and what was found for it."""
    console.print()
    console.print(Text(f"? {question}", style="bold"))
    for hit in hits:
        text = hit.passage.text if len(hit.passage.text) <= SHOWN else hit.passage.text[: SHOWN - 3] + "..."
        console.print(Text(f"  {hit.score:.3f}  {hit.passage.name}", style="green"))
        console.print(Text(f"         {text}", style="dim"), soft_wrap=True)


def ask_until_done(console: Console, index: SearchIndex) -> None:
    """Answer questions from the terminal until an empty line, the end of input or an interrupt."""
    console.print()
    console.print("Ask what Python can do for you; an empty line ends this.", markup=False)
    while True:
        try:
            question = console.input(Text("> ")).strip()
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        if not question:
            return
        show_hits(console, question, index.find(question))
