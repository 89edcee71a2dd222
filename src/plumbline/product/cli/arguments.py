"""Arguments that several commands share, and their meaning as options of `plumbline.load`."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plumbline.errors import ArtifactError

if TYPE_CHECKING:
    from plumbline.product.compose import LoadOptions

__all__ = [
    "ArrayFileRefused",
    "add_document_file",
    "add_model",
    "add_output_file",
    "load_options",
    "parse_assignment",
    "parse_count",
    "parse_shape",
    "parse_size",
    "read_array",
]

_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
    "K": 2**10,
    "M": 2**20,
    "G": 2**30,
}


@dataclass(eq=False, kw_only=True)
class ArrayFileRefused(ArtifactError):
    """An array file cannot be read."""

    code = "artifact.array_file"
    owner = "product"
    template = "array file {file!r}: {reason}"

    file: str
    reason: str


def add_document_file(parser: ArgumentParser) -> None:
    """`--out FILE`: where the JSON document goes."""
    parser.add_argument("--out", dest="document_file", metavar="FILE", help="write the JSON document to FILE")


def add_output_file(parser: ArgumentParser, help_text: str) -> None:
    """`--out F` for a command whose product is itself a file or folder."""
    parser.add_argument("--out", metavar="F", help=help_text)


def add_model(parser: ArgumentParser) -> None:
    """The model and how to load it."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="an ONNX file, Hugging Face folder, .graph text or compiled folder")
    add(
        "--symbol",
        action="append",
        default=[],
        metavar="NAME=BOUND",
        type=_symbol,
        help="bound of a dimension",
    )
    add(
        "--shape",
        action="append",
        default=[],
        metavar="INPUT=1x3x224x224",
        type=_shape,
        help="shape of an input",
    )
    add(
        "--constant",
        action="append",
        default=[],
        metavar="INPUT=F.npy",
        type=parse_assignment,
        help="bind an input that determines shapes",
    )
    add("--threads", type=parse_count, default=1, metavar="N", help="threads of one context (default 1)")
    add(
        "--contexts",
        type=parse_count,
        default=1,
        metavar="N",
        help="arenas, for the memory promise (default 1)",
    )
    add("--target", metavar="NAME", help="avx512, avx2 or neon (default: the widest of this machine)")
    add("--memory-budget", type=parse_size, metavar="SIZE", help="refuse a plan above this, such as 512MiB")
    add(
        "--max-segment-ns",
        type=parse_count,
        metavar="NS",
        help="cut the program into segments this long",
    )
    add(
        "--digest",
        "--expect-digest",
        dest="digest",
        metavar="SHA256",
        help="refuse a file with another digest",
    )


def load_options(arguments: Namespace, **more: Any) -> LoadOptions:
    """Options of `plumbline.load` from parsed arguments.

    Raises:
        ArrayFileRefused: the file of a constant cannot be read.
    """
    from plumbline.product.compose import LoadOptions

    return LoadOptions(
        threads=arguments.threads,
        contexts=arguments.contexts,
        target=arguments.target,
        symbols=dict(arguments.symbol),
        shapes=dict(arguments.shape),
        constants={name: read_array(file) for name, file in arguments.constant},
        memory_budget=arguments.memory_budget,
        max_segment_ns=arguments.max_segment_ns,
        digest=arguments.digest,
        **more,
    )


def read_array(file: str) -> Any:
    """An array from a `.npy` file; pickled objects are refused.

    Raises:
        ArrayFileRefused: naming the file and the reason.
    """
    import numpy as np

    try:
        return np.load(file, allow_pickle=False)
    except OSError as error:
        raise ArrayFileRefused(
            file=Path(file).name, reason=(error.strerror or "unreadable").lower()
        ) from error
    except (ValueError, EOFError) as error:
        raise ArrayFileRefused(file=Path(file).name, reason="not an array of plain numbers") from error


def parse_size(text: str) -> int:
    """Bytes from `100MB` (decimal), `512MiB` (binary) or a plain number.

    >>> parse_size("2KiB"), parse_size("1.5MB"), parse_size("7")
    (2048, 1500000, 7)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2].upper() not in _UNITS:
        raise ArgumentTypeError(f"{text!r} is not a size; write 100MB or 512MiB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def parse_assignment(text: str) -> tuple[str, str]:
    """`name=value` into its two parts; the value may hold `=`, the name may not."""
    name, sign, value = text.partition("=")
    if not (sign and name and value):
        raise ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def parse_shape(text: str) -> tuple[int, ...]:
    """Extents from `1x3x224x224`; a scalar is the word `scalar`.

    >>> parse_shape("1x3x224x224")
    (1, 3, 224, 224)
    """
    if text == "scalar":
        return ()
    parts = re.split(r"[x,]", text)
    if not all(part.isascii() and part.isdigit() and len(part) < 16 for part in parts):
        raise ArgumentTypeError(f"{text!r} is not a shape; write 1x3x224x224")
    return tuple(int(part) for part in parts)


def _symbol(text: str) -> tuple[str, int]:
    name, value = parse_assignment(text)
    return name, parse_count(value)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, value = parse_assignment(text)
    return name, parse_shape(value)


def parse_count(text: str) -> int:
    """A whole number from 1."""
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 16 and int(text) > 0):
        raise ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)
