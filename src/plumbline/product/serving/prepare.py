"""Compile a version in a process of its own, before it is loaded: nothing is compiled while serving.

`python -m plumbline.product.serving.prepare` reads a version from standard input and answers with JSON, one
document a line: `{"prepared": true}` or `{"error": {...}}`, and then, where it was given a folder for them,
`{"drawn": {...}}` about the pictures of the plans. A version without the second line is prepared all the
same: no picture keeps a version from serving.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from plumbline.contracts.versions import VersionSpec
from plumbline.errors import ExecutionError, PlumblineError
from plumbline.product.serving.drawn_plans import DrawnPlans
from plumbline.product.serving.plan_shelf import PlanShelf

__all__ = ["PreparationFailed", "main", "prepare_apart"]


@dataclass(eq=False, kw_only=True)
class PreparationFailed(ExecutionError):
    """A version could not be compiled; `cause_code` is the code of what went wrong, or `exit N`."""

    code = "execution.preparation"
    owner = "product"
    http_status = 422
    template = "{version} cannot be compiled ({cause_code}): {reason}"

    version: str
    cause_code: str
    reason: str


async def prepare_apart(
    spec: VersionSpec, *, allow_code: bool = False, plans: PlanShelf | None = None
) -> None:
    """Compile a version into the cache of this user, in another process, and draw its plans there.

    Args:
        spec: of the version.
        allow_code: whether Python classes may be part of it.
        plans: gets the plans and their pictures, or the news that they could not be drawn.

    Raises:
        PreparationFailed: with the code and message of what the compiler said.
    """
    pictures = None if plans is None else await plans.empty_folder(spec.ref)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "plumbline.product.serving.prepare",
        "code" if allow_code else "no-code",
        *([] if pictures is None else [str(pictures)]),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        answer, _ = await process.communicate(msgspec.msgpack.encode(spec, enc_hook=_encode))
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    document = _documents(answer)
    if "prepared" not in document:
        error = document.get("error", {})
        raise PreparationFailed(
            version=str(spec.ref),
            cause_code=str(error.get("code", f"exit {process.returncode}")),
            reason=str(error.get("message", "the compiling process ended without an answer")),
        )
    if plans is not None:
        plans.keep(spec, pictures, _drawn(document))


def main() -> int:
    """Read a version, compile it, answer; draw its plans, answer; the exit code."""
    from plumbline.product.sessions import prepare

    spec = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=VersionSpec, dec_hook=_decode)
    allowed, *pictures = sys.argv[1:]
    try:
        prepare(spec, allow_code=allowed == "code")
    except PlumblineError as error:
        print(json.dumps({"error": error.to_dict()}, default=str))
        return 1
    print(json.dumps({"prepared": True}), flush=True)
    if pictures:
        from plumbline.product.serving.plan_drawing import draw_plans

        print(json.dumps({"drawn": msgspec.to_builtins(draw_plans(spec, Path(pictures[0])))}))
    return 0


def _documents(answer: bytes) -> dict[str, Any]:
    """The members of all documents; what else a library prints is passed over."""
    found: dict[str, Any] = {}
    for line in answer.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            document = json.loads(line)
            if isinstance(document, dict):
                found |= document
    return found


def _drawn(document: dict[str, Any]) -> DrawnPlans | None:
    try:
        return msgspec.convert(document["drawn"], DrawnPlans)
    except (KeyError, msgspec.ValidationError):
        return None


def _encode(value: Any) -> Any:
    return str(value)


def _decode(wanted: type, value: Any) -> Any:
    return wanted(value)


if __name__ == "__main__":
    sys.exit(main())
