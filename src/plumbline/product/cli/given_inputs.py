"""`--input NAME=VALUE` and `--text` of commands that ask a server, as tensors of the model."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plumbline.errors import ArtifactError, ValidationError
from plumbline.product.cli.arguments import parse_assignment, read_array

if TYPE_CHECKING:
    from plumbline.product.client import Client

__all__ = ["InputFileRefused", "InputNotUnderstood", "add_inputs", "read_inputs"]

_MAX_FILE_BYTES = 1 << 30


@dataclass(eq=False, kw_only=True)
class InputFileRefused(ArtifactError):
    """The file of an input cannot be read."""

    code = "artifact.input_file"
    owner = "product"
    template = "input file {file!r}: {reason}"

    file: str
    reason: str


@dataclass(eq=False, kw_only=True)
class InputNotUnderstood(ValidationError):
    """An input cannot be turned into what the model takes. Nothing was sent."""

    code = "validation.command_input"
    owner = "product"
    template = "input {name!r}: {reason}"

    name: str
    reason: str


def add_inputs(parser: ArgumentParser) -> None:
    """`--input` and `--text`."""
    parser.add_argument(
        "--input", action="append", default=[], metavar="NAME=VALUE", type=parse_assignment,
        help="JSON numbers, a text, or @FILE: .npy, .json, or else one text a line",
    )  # fmt: skip
    parser.add_argument(
        "--text",
        action="append",
        default=[],
        metavar="TEXT",
        help="for the one input of texts; may be repeated",
    )


def read_inputs(
    client: Client,
    model: str,
    version: str | None,
    given: Sequence[tuple[str, str]],
    texts: Sequence[str] = (),
) -> tuple[dict[str, Any], dict[str, str]]:
    """Arrays or lists of texts by name, and the datatypes that their arrays do not say.

    Args:
        client: asked for the inputs of the model.
        model: `NAME` or `NAME@VERSION`.
        version: or None.
        given: names and values of `--input`.
        texts: of `--text`, for the one input that takes texts.

    Raises:
        InputFileRefused, ArrayFileRefused, InputNotUnderstood: naming the input or the file.
        PlumblineError: the server has no such model.
    """
    name, _, named = model.partition("@")
    document = client.metadata(name, version or named or None)
    known = {tensor["name"]: tensor["datatype"] for tensor in document.get("inputs", [])}
    inputs = {name: _value(name, value, known.get(name)) for name, value in given}
    if texts:
        inputs[_text_input(known)] = list(texts)
    return inputs, {name: "BF16" for name in inputs if known.get(name) == "BF16"}


def _text_input(known: dict[str, str]) -> str:
    takers = [name for name, datatype in known.items() if datatype == "BYTES"]
    if len(takers) != 1:
        found = ", ".join(f"{name} ({datatype})" for name, datatype in known.items())
        raise InputNotUnderstood(name="--text", reason=f"not one input takes texts; there are: {found}")
    return takers[0]


def _value(name: str, text: str, datatype: str | None) -> Any:
    if not text.startswith("@"):
        return _parsed(name, text, datatype)
    file = Path(text[1:])
    if file.suffix == ".npy":
        return read_array(str(file))
    content = _read(file)
    if file.suffix == ".json":
        return _parsed(name, content, datatype)
    return content.splitlines()


def _parsed(name: str, text: str, datatype: str | None) -> Any:
    """JSON as an array of the datatype; for an input of texts, texts."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        if datatype == "BYTES":
            return [text]
        raise InputNotUnderstood(name=name, reason="expected JSON numbers or @FILE") from None
    if datatype == "BYTES":
        texts = value if isinstance(value, list) else [text]
        if all(isinstance(item, str) for item in texts):
            return texts
        raise InputNotUnderstood(name=name, reason="expected a text or a list of texts")
    return _numbers(name, value, datatype)


def _numbers(name: str, value: Any, datatype: str | None) -> Any:
    import numpy as np

    from plumbline.serving.open_inference.datatypes import dtype_of

    if datatype == "BF16":
        raise InputNotUnderstood(name=name, reason="BF16 needs @FILE.npy with its bits as uint16")
    try:
        array = np.array(value)
        wanted = dtype_of(datatype) if datatype else array.dtype
        with np.errstate(all="ignore"):  # what was lost is looked for below
            converted = array.astype(wanted, casting="unsafe")
    except (ValueError, TypeError, OverflowError):
        raise InputNotUnderstood(name=name, reason="the JSON is no array of numbers") from None
    if array.dtype.kind not in "biuf" or not _is_same(np, array, converted):
        raise InputNotUnderstood(
            name=name, reason=f"the JSON does not hold values of {datatype or 'a number'}"
        )
    return converted


def _is_same(np: Any, given: Any, converted: Any) -> bool:
    """Whether a conversion lost no more than digits of a fraction."""
    if converted.dtype.kind == "f":
        return bool((np.isfinite(converted) | ~np.isfinite(given.astype(float))).all())
    return bool((given == converted).all())


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > _MAX_FILE_BYTES:
            raise InputFileRefused(file=file.name, reason=f"more than {_MAX_FILE_BYTES} bytes")
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputFileRefused(file=file.name, reason=(error.strerror or "unreadable").lower()) from error
    except UnicodeDecodeError:
        raise InputFileRefused(file=file.name, reason="not UTF-8") from None
