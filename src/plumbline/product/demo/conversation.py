"""What the demonstration says on a terminal: answers with their reasons, the books, where to go on."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from plumbline.product.demo.asking import MODEL, Hit

__all__ = ["commands_to_try", "show_answer", "show_commands", "show_lines"]

SHOWN = 96
"""Characters of a passage that are shown."""
_QUESTION = "round a number down"


def show_answer(console: Console, door: str, question: str, hits: Sequence[Hit], elapsed_ms: float) -> None:
    """Print a question, by which door it went, and what was found."""
    console.print()
    console.print(Text.assemble((f"? {question}", "bold"), (f"   {door}, {elapsed_ms:.1f} ms", "dim")))
    for hit in hits:
        text = hit.text if len(hit.text) <= SHOWN else hit.text[: SHOWN - 3] + "..."
        console.print(Text(f"  {hit.score:.3f}  {hit.name}", style="green"))
        console.print(Text(f"         {text}", style="dim"), soft_wrap=True)


def show_lines(console: Console, head: str, lines: Sequence[str]) -> None:
    """Print an explanation as the server gave it."""
    console.print(Text(f"  {head}", style="cyan"))
    for line in lines:
        console.print(Text(f"    {line}", style="dim"), soft_wrap=True)


def commands_to_try(address: str, request_id: str) -> tuple[tuple[str, str], ...]:
    """What can be pasted into a shell, each with what it does.

    Args:
        address: `http://host:port`.
        request_id: of a request that was answered.
    """
    tensor = {"name": "texts", "datatype": "BYTES", "shape": [1], "data": [_QUESTION]}
    body = shlex.quote(json.dumps({"inputs": [tensor]}))
    media = "-H 'content-type: application/json'"
    given = "-H 'x-request-id: mine-1'"
    return (
        ("ask", f"curl -sS {address}/v2/models/{MODEL}/infer {media} {given} -d {body}"),
        ("why it ran when it did", f"curl -sS {address}/api/v1/requests/{request_id}/explain"),
        ("what this model takes", f"curl -sS {address}/v2/models/{MODEL}"),
        ("models and their memory", f"curl -sS {address}/api/v1/models"),
        ("the last launches", f"curl -sS '{address}/api/v1/timeline?last=10'"),
        ("counts and times", f"curl -sS {address}/metrics"),
    )


def show_commands(
    console: Console, address: str, grpc_address: str, commands: Sequence[tuple[str, str]]
) -> None:
    """Print where the server is and what to try next."""
    console.print()
    for label, text in (
        ("status page", f"{address}/"),
        ("API", f"{address}/docs"),
        ("gRPC", f"{grpc_address} (Open Inference Protocol, with reflection)"),
    ):
        console.print(f"{label:>13}  {text}", markup=False, soft_wrap=True)
    console.print()
    for label, command in commands:
        console.print(Text(f"# {label}", style="dim"))
        console.print(Text(command), soft_wrap=True)
