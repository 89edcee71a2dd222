"""Formats of model files from outside: one contract, found by the suffix of the file (requirement X-67).

    class Rows:
        name = "rows"
        suffix = ".rows"

        def read(self, data, options): ...      bytes -> ExecutionGraph

    register_format(Rows())

A format builds its graph with `GraphBuilder` and refuses what it cannot read by a `PlumblineError`. Planning,
compiling, caching and serving know nothing of it. `plumbline.testing.model_formats` holds it to the rules
that our own readers keep.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from plumbline.errors import ArtifactError, ValidationError

if TYPE_CHECKING:
    from plumbline.compiler.graph.graph import ExecutionGraph

__all__ = [
    "FormatConflict",
    "FormatOptions",
    "ModelFileRefused",
    "ModelFormat",
    "find_format",
    "read_model_file",
    "register_format",
    "registered_formats",
]

OURS = (".onnx", ".graph", ".json", ".safetensors")
MAX_BYTES = 1 << 31
_SUFFIX = re.compile(r"\.[a-z0-9][a-z0-9_]{0,31}", re.ASCII)


@dataclass(eq=False, kw_only=True)
class FormatConflict(ValidationError):
    """A suffix is taken, or is none."""

    code = "validation.model_format"
    owner = "compiler"
    template = "model format {name!r} cannot have the suffix {suffix!r}: {reason}"

    name: str
    suffix: str
    reason: str


@dataclass(eq=False, kw_only=True)
class ModelFileRefused(ArtifactError):
    """A file of a registered format cannot be read, or its reader failed."""

    code = "artifact.model_file"
    owner = "compiler"
    template = "{file} as {format}: {reason}"

    file: str
    format: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatOptions:
    """What the caller of `load` decides about reading.

    Attributes:
        symbols: bound of each symbolic dimension.
        shapes: shapes of inputs that the file leaves open.
        constants: inputs to bind at build.
    """

    symbols: Mapping[str, int] = field(default_factory=dict)
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)


class ModelFormat(Protocol):
    """Reads one kind of model file."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def suffix(self) -> str:
        """Of its files, lower case, with the dot."""

    def read(self, data: bytes, options: FormatOptions) -> ExecutionGraph:
        """The graph of a file. Runs nothing of it and reads no other file.

        Raises:
            PlumblineError: what is wrong with the file.
        """


_formats: dict[str, ModelFormat] = {}


def register_format(found: ModelFormat) -> None:
    """Add a format.

    Raises:
        FormatConflict: its suffix is taken, is one of ours, or is no suffix.
    """
    suffix = found.suffix
    reason = ""
    if not _SUFFIX.fullmatch(suffix):
        reason = "expected a dot with lower-case letters and digits"
    elif suffix in OURS:
        reason = "it is one of ours"
    elif suffix in _formats:
        reason = f"format {_formats[suffix].name!r} has it"
    if reason:
        raise FormatConflict(name=found.name, suffix=suffix[:40], reason=reason)
    _formats[suffix] = found


def find_format(path: Path) -> ModelFormat | None:
    """The registered format of a file, or None."""
    return _formats.get(path.suffix)


def registered_formats() -> tuple[ModelFormat, ...]:
    """Every registered format, by suffix."""
    return tuple(_formats[suffix] for suffix in sorted(_formats))


def read_model_file(path: Path, found: ModelFormat, options: FormatOptions) -> ExecutionGraph:
    """Read a file through its format.

    Raises:
        ModelFileRefused: the file cannot be opened or is too large, or the reader stumbled over it.
        PlumblineError: what the format refuses.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _refused(path, found, f"larger than {MAX_BYTES} bytes")
        return found.read(path.read_bytes(), options)
    except OSError as error:
        raise _refused(path, found, error.strerror or "it cannot be read") from error
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        raise _refused(path, found, f"its reader raised {type(error).__name__}") from error


def _refused(path: Path, found: ModelFormat, reason: str) -> ModelFileRefused:
    return ModelFileRefused(file=path.name, format=found.name, reason=reason)
