"""Compile a version in a process of its own, before it is loaded: nothing is compiled while serving.

`python -m plumbline.product.serving.prepare` reads a version from standard input and answers with one JSON
document, `{}` or `{"error": {...}}`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import Any

import msgspec

from plumbline.contracts.versions import VersionSpec
from plumbline.errors import ExecutionError, PlumblineError

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


async def prepare_apart(spec: VersionSpec, *, allow_code: bool = False) -> None:
    """Compile a version into the cache of this user, in another process.

    Args:
        spec: of the version.
        allow_code: whether Python classes may be part of it.

    Raises:
        PreparationFailed: with the code and message of what the compiler said.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "plumbline.product.serving.prepare",
        "code" if allow_code else "no-code",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        answer, _ = await process.communicate(msgspec.msgpack.encode(spec, enc_hook=_encode))
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    document = _document(answer)
    if process.returncode or "error" in document:
        error = document.get("error", {})
        raise PreparationFailed(
            version=str(spec.ref),
            cause_code=str(error.get("code", f"exit {process.returncode}")),
            reason=str(error.get("message", "the compiling process ended without an answer")),
        )


def main() -> int:
    """Read a version, compile it, answer; the exit code."""
    from plumbline.product.sessions import prepare

    spec = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=VersionSpec, dec_hook=_decode)
    try:
        prepare(spec, allow_code=sys.argv[1:] == ["code"])
    except PlumblineError as error:
        print(json.dumps({"error": error.to_dict()}, default=str))
        return 1
    print("{}")
    return 0


def _document(answer: bytes) -> dict[str, Any]:
    try:
        found = json.loads(answer.splitlines()[-1])
    except (ValueError, IndexError):
        return {}
    return found if isinstance(found, dict) else {}


def _encode(value: Any) -> Any:
    return str(value)


def _decode(wanted: type, value: Any) -> Any:
    return wanted(value)


if __name__ == "__main__":
    sys.exit(main())
