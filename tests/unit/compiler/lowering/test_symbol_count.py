"""A context block has room for a stated number of symbols."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import plumbline
from plumbline.compiler.lowering.executable import TooManySymbols
from plumbline.contracts.context_block import MAX_SYMBOLS


def model_of(symbols: int) -> bytes:
    """One Relu for each symbol, each over a vector of that extent."""
    names = [f"n{i}" for i in range(symbols)]
    nodes = [helper.make_node("Relu", [f"x_{n}"], [f"y_{n}"]) for n in names]
    inputs = [helper.make_tensor_value_info(f"x_{n}", TensorProto.FLOAT, [n]) for n in names]
    outputs = [helper.make_tensor_value_info(f"y_{n}", TensorProto.FLOAT, [n]) for n in names]
    opset = [helper.make_opsetid("", 17)]
    graph = helper.make_graph(nodes, "many", inputs, outputs)
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def bounds(symbols: int) -> dict[str, int]:
    return {f"n{i}": 4 for i in range(symbols)}


def test_last_symbol_that_fits_has_its_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path))
    with plumbline.load(model_of(MAX_SYMBOLS), symbols=bounds(MAX_SYMBOLS)) as model:
        given = {f"x_n{i}": np.full(i % 4 + 1, i - 60, np.float32) for i in range(MAX_SYMBOLS)}
        for name, result in model.run(given).items():
            np.testing.assert_array_equal(result, np.maximum(given["x" + name[1:]], 0))


def test_one_symbol_too_many_is_refused_with_the_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path))
    with pytest.raises(TooManySymbols, match=str(MAX_SYMBOLS)):
        plumbline.load(model_of(MAX_SYMBOLS + 1), symbols=bounds(MAX_SYMBOLS + 1))
