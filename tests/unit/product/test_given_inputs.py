"""`--input` and `--text` become what the model takes, or are refused by name (L4-56)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from plumbline.errors import PlumblineError
from plumbline.product.cli.given_inputs import InputNotUnderstood, read_inputs
from plumbline.product.client import Client


class Metadata:
    """Says what a model takes, and keeps which was asked for."""

    def __init__(self, **inputs: str) -> None:
        self.inputs, self.asked = inputs, ("", "")

    def metadata(self, model: str, version: str | None = None) -> dict[str, Any]:
        self.asked = (model, version or "")
        return {"inputs": [{"name": name, "datatype": kind} for name, kind in self.inputs.items()]}


def read(given: list[tuple[str, str]], texts: list[str] | None = None, **inputs: str) -> dict[str, Any]:
    client = cast(Client, Metadata(**inputs))
    return read_inputs(client, "m", None, given, texts or [])[0]


@pytest.mark.parametrize(
    ("datatype", "text", "wanted"),
    [
        ("FP32", "[[1, 2.5]]", np.array([[1, 2.5]], np.float32)),
        ("FP16", "3", np.array(3, np.float16)),
        ("INT8", "[-128, 127]", np.array([-128, 127], np.int8)),
        ("UINT64", "[18446744073709551615]", np.array([2**64 - 1], np.uint64)),
        ("BOOL", "[true, false]", np.array([True, False])),
        ("FP64", "[]", np.zeros(0)),
    ],
)
def test_json_becomes_the_datatype_of_the_model(datatype: str, text: str, wanted: np.ndarray) -> None:
    found = read([("x", text)], x=datatype)["x"]
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("datatype", "text"),
    [
        ("INT8", "128"), ("UINT8", "-1"), ("INT32", "1.5"), ("BOOL", "2"), ("FP16", "70000"),
        ("FP32", "words"),
        ("FP32", '["a"]'), ("FP32", "[[1], [1, 2]]"), ("FP32", "null"), ("FP32", "{}"), ("BF16", "1"),
        ("INT64", "99999999999999999999999"), ("BYTES", "[1]"), ("FP32", "[" * 5000),
    ],
)  # fmt: skip
def test_a_value_that_the_datatype_cannot_hold_is_refused_by_name(datatype: str, text: str) -> None:
    with pytest.raises(InputNotUnderstood, match="'x'"):
        read([("x", text)], x=datatype)


def test_texts_come_from_the_argument_from_json_and_from_the_lines_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("one\ntwo\n", encoding="utf-8")
    assert read([("t", "some words")], t="BYTES")["t"] == ["some words"]
    assert read([("t", '["a", "b"]')], t="BYTES")["t"] == ["a", "b"]
    assert read([("t", f"@{file}")], t="BYTES")["t"] == ["one", "two"]
    assert read([], ["a", "b"], t="BYTES", mask="INT64")["t"] == ["a", "b"]


def test_text_needs_exactly_one_input_that_takes_it() -> None:
    for inputs in ({"x": "FP32"}, {"a": "BYTES", "b": "BYTES"}):
        with pytest.raises(InputNotUnderstood, match="not one input takes texts"):
            read([], ["words"], **inputs)


def test_an_array_file_is_sent_as_it_is(tmp_path: Path) -> None:
    """Conversion would hide a mistake: the server refuses another datatype."""
    np.save(tmp_path / "x.npy", np.arange(3, dtype=np.int16))
    assert read([("x", f"@{tmp_path / 'x.npy'}")], x="FP32")["x"].dtype == np.int16


def test_a_file_that_cannot_be_read_is_refused_without_its_folder(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    for name in ("none.txt", "none.npy", "bad.txt", "objects.npy"):
        with pytest.raises(PlumblineError) as caught:
            read([("x", f"@{tmp_path / name}")], x="FP32")
        assert name in caught.value.message
        assert str(tmp_path) not in caught.value.message


def test_a_version_behind_the_name_is_the_one_that_is_asked_about() -> None:
    metadata = Metadata(x="FP32")
    read_inputs(cast(Client, metadata), "m@3", None, [])
    assert metadata.asked == ("m", "3")
