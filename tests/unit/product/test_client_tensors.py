"""Tensors of the client: what goes out comes back, and what no tensor holds is refused by name."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from plumbline.product.client.inference import InputNotTensor, decode_answer, encode_inputs, tensor_document
from plumbline.product.client.transport import Reply

TYPES = [np.bool_, np.int8, np.uint16, np.int32, np.uint64, np.int64, np.float16, np.float32, np.float64]


def echoed(
    inputs: dict[str, Any], *, binary: bool, datatypes: dict[str, str] | None = None
) -> dict[str, Any]:
    """What a client reads when a server sends its inputs back."""
    documents, data = encode_inputs(inputs, datatypes or {}, binary=binary)
    head = json.dumps({"model_name": "m", "model_version": "1", "outputs": documents}).encode()
    headers = {"inference-header-content-length": str(len(head))} if binary else {}
    answer = decode_answer(Reply(operation="POST", status=200, headers=headers, body=head + data))
    return dict(answer.outputs)


@settings(max_examples=60, deadline=None)
@given(
    array=st.sampled_from(TYPES).flatmap(
        lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, min_side=0, max_side=4))
    ),
    binary=st.booleans(),
)
def test_an_array_comes_back_as_it_went(array: np.ndarray, binary: bool) -> None:
    if not binary and array.dtype.kind == "f" and not np.isfinite(array).all():
        with pytest.raises(InputNotTensor):
            echoed({"x": array}, binary=False)
        return
    found = echoed({"x": array}, binary=binary)["x"]
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == np.ascontiguousarray(array).tobytes()


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.text(max_size=8), max_size=5), binary=st.booleans())
def test_texts_come_back_as_bytes(texts: list[str], binary: bool) -> None:
    found = echoed({"t": texts}, binary=binary)["t"]
    assert found.tolist() == [text.encode() for text in texts]


def test_layout_and_byte_order_of_an_array_do_not_matter() -> None:
    array = np.arange(6, dtype=">f4").reshape(2, 3).T
    assert echoed({"x": array}, binary=True)["x"].tolist() == array.tolist()


def test_bits_of_bf16_travel_under_their_name() -> None:
    bits = np.array([0x3F80, 0x4000], np.uint16)
    documents, data = encode_inputs({"x": bits}, {"x": "BF16"}, binary=True)
    assert documents[0]["datatype"] == "BF16"
    assert data == bits.tobytes()


@pytest.mark.parametrize(
    "value",
    ["one text", [1, 2], [None], np.array([1j]), np.array(["2020-01-01"], "M8[D]"), np.array([object()])],
    ids=["text", "list", "none", "complex", "date", "object"],
)
@pytest.mark.parametrize("binary", [True, False])
def test_what_no_tensor_holds_is_refused_by_name(value: Any, binary: bool) -> None:
    with pytest.raises(InputNotTensor, match="'x'"):
        encode_inputs({"x": value}, {}, binary=binary)


def test_bytes_that_are_no_text_need_binary_data() -> None:
    with pytest.raises(InputNotTensor, match="binary"):
        tensor_document("x", [b"\xff"])
    assert echoed({"x": [b"\xff"]}, binary=True)["x"].tolist() == [b"\xff"]
