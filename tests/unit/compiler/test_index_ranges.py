"""Inputs that are nothing but indices: which they are, and what a caller may give (X-27)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.graph import ExecutionGraph, TensorID
from plumbline.compiler.index_ranges import find_index_ranges
from plumbline.contracts.dims import Dim, symbol
from plumbline.contracts.tensors import DType, TensorType
from plumbline.engine.model import InputRefused
from plumbline.testing.models import open_model

N = symbol("N")


def graph_of(
    *tables: tuple[int, int],
    dtype: DType = DType.INT64,
    through: tuple[tuple[str, dict[str, object]], ...] = (),
    shape: tuple[Dim, ...] = (N, 2),
) -> ExecutionGraph:
    """One input of indices, what it goes through, and a table for each output."""
    b = GraphBuilder("lookup", {"N": 4})
    ids = b.input("ids", TensorType(dtype, shape))
    for operation, attributes in through:
        ids = b.add1(operation, [ids], attributes)
    for number, (rows, width) in enumerate(tables):
        table = b.constant(np.arange(rows * width, dtype=np.float32).reshape(rows, width))
        b.output(f"y{number}", b.add1("gather", [table, ids], {"axis": 0}))
    return b.build()


def test_an_input_that_indexes_a_table_may_be_what_onnx_allows() -> None:
    assert find_index_ranges(graph_of((7, 3))) == {"ids": (-7, 6)}


def test_of_several_tables_the_shortest_counts() -> None:
    assert find_index_ranges(graph_of((7, 3), (5, 2), (9, 1))) == {"ids": (-5, 4)}


@pytest.mark.parametrize(
    ("dtype", "through"),
    [
        (DType.INT32, (("cast", {"to": "int64"}),)),
        (DType.UINT8, (("cast", {"to": "int32"}), ("cast", {"to": "int64"}))),
        (DType.INT64, (("transpose", {"perm": (1, 0)}), ("identity", {}))),
    ],
)
def test_what_keeps_every_value_keeps_the_range(
    dtype: DType, through: tuple[tuple[str, dict[str, object]], ...]
) -> None:
    assert find_index_ranges(graph_of((7, 3), dtype=dtype, through=through)) == {"ids": (-7, 6)}


@pytest.mark.parametrize(
    ("dtype", "through"),
    [
        (DType.INT64, (("cast", {"to": "int32"}),)),
        (DType.UINT64, (("cast", {"to": "int64"}),)),
        (DType.INT64, (("abs", {}),)),
        (DType.INT64, (("cast", {"to": "uint8"}), ("cast", {"to": "int64"}))),
    ],
)
def test_what_changes_a_value_ends_the_proof(
    dtype: DType, through: tuple[tuple[str, dict[str, object]], ...]
) -> None:
    assert find_index_ranges(graph_of((7, 3), dtype=dtype, through=through)) == {}


def test_a_table_of_open_extent_and_a_result_that_nobody_reads_say_nothing() -> None:
    b = GraphBuilder("open", {"N": 4})
    ids = b.input("ids", TensorType(DType.INT64, (2,)))
    rows = b.input("rows", TensorType(DType.FLOAT32, (N, 3)))
    b.add1("gather", [b.constant(np.zeros((5, 1), np.float32)), ids], {"axis": 0})
    b.output("y", b.add1("gather", [rows, ids], {"axis": 0}))
    assert find_index_ranges(b.build()) == {}


def test_an_element_picked_for_each_index_has_the_range_of_its_axis() -> None:
    b = GraphBuilder("elements")
    ids = b.input("ids", TensorType(DType.INT64, (2, 3)))
    data: TensorID = b.input("data", TensorType(DType.FLOAT32, (2, 6)))
    b.output("y", b.add1("gather_elements", [data, ids], {"axis": 1}))
    assert find_index_ranges(b.build()) == {"ids": (-6, 5)}


def test_an_index_outside_its_table_is_refused_with_position_value_and_range(tmp_path: Path) -> None:
    """It answered with the last row before, which looks like any other answer."""
    with open_model(graph_of((7, 1)), tmp_path) as model:
        good = model.run({"ids": np.array([[0, 6], [-7, -1]], np.int64)})["y0"]
        assert good.reshape(-1).tolist() == [0.0, 6.0, 0.0, 6.0]
        for value in (7, -8, 99_999_999, np.iinfo(np.int64).min):
            with pytest.raises(InputRefused) as refused:
                model.run({"ids": np.array([[0, 1], [value, 2]], np.int64)})
            wanted = f"the value at [1, 0] is {value}; it is an index from -7 to 6"
            assert (refused.value.input, refused.value.reason) == ("ids", wanted)
            assert refused.value.http_status == 400
        assert model.run({"ids": np.zeros((0, 2), np.int64)})["y0"].shape == (0, 2, 1)
