"""JSON from untrusted files: bounded, without duplicate names and without numbers that JSON does not have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plumbline.compiler.importers.payload import open_source
from plumbline.errors import ArtifactError

__all__ = ["MalformedJsonError", "parse_json", "read_json"]


@dataclass(eq=False, kw_only=True)
class MalformedJsonError(ArtifactError):
    """A JSON document is damaged, or uses what JSON does not allow."""

    code = "artifact.json"
    owner = "compiler.importers"
    template = "{file} is no usable JSON: {reason}"

    file: str
    reason: str


class _Refused(ValueError):
    """A document holds something that the standard parser would accept."""


def parse_json(data: bytes, file: str) -> Any:
    """Parse a document that was read already, so its size is bounded by the caller.

    Raises:
        MalformedJsonError: not UTF-8, not JSON, nested too deeply, a name twice, or NaN and infinities.
    """
    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_float=_number
        )
    except UnicodeDecodeError as error:
        raise MalformedJsonError(file=file, reason=f"byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at line {error.lineno} column {error.colno}"
        raise MalformedJsonError(file=file, reason=reason) from error
    except RecursionError as error:
        raise MalformedJsonError(file=file, reason="it is nested too deeply") from error
    except ValueError as error:
        raise MalformedJsonError(file=file, reason=str(error)[:200]) from error


def read_json(path: Path, limit_bytes: int) -> Any:
    """Read and parse a document of at most `limit_bytes`.

    Raises:
        UnreadableFileError, ImportLimitError, MalformedJsonError: as said.
    """
    source, _ = open_source(path, purpose="a JSON document", limit_bytes=limit_bytes)
    return parse_json(bytes(source.buffer), path.name)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _Refused(f"the name {name[:80]!r} appears twice")
        found[name] = value
    return found


def _constant(text: str) -> float:
    raise _Refused(f"{text} is not a JSON number")


def _number(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise _Refused(f"the number {text[:40]} is too large")
    return number
