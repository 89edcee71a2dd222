"""Where a proof begins and ends: inputs, outputs, states, packed text (L4-62)."""

from __future__ import annotations

import numpy as np
import pytest

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.rows import RowProof, check_rows, prove_rows
from plumbline.contracts.dims import Dim, symbol
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.registry import get_operation
from plumbline.kernels.rows import RowCall, Rows

N, T = symbol("N"), symbol("T")


def floats(*shape: Dim) -> TensorType:
    return TensorType(DType.FLOAT32, shape)


def builder() -> GraphBuilder:
    return GraphBuilder("proof", {"N": 4, "T": 5})


def sum_of(first: TensorType, second: TensorType) -> RowProof:
    b = builder()
    b.output("y", b.add1("add", [b.input("a", first), b.input("b", second)]))
    return prove_rows(b.build())


def test_two_inputs_with_the_symbol_first_share_a_launch() -> None:
    proof = sum_of(floats(N, 3), floats(N, 3))
    assert proof == RowProof(symbol="N", inputs={"a": 0, "b": 0}, outputs={"y": 0})


@pytest.mark.parametrize(("shape", "named"), [((1, 3), "[1, 3]"), ((T, 3), "[T, 3]"), ((), "[]")])
def test_input_that_requests_would_have_to_share_is_refused_by_name(
    shape: tuple[Dim, ...], named: str
) -> None:
    b = builder()
    x, table = b.input("x", floats(N, 3)), b.input("table", floats(*shape))
    b.output("y", b.add1("relu", [x]))
    b.output("z", b.add1("relu", [table]))
    proof = prove_rows(b.build())
    assert proof.symbol == ""
    assert f"input table of shape {named}" in proof.refused_because


def test_symbol_on_two_axes_of_an_input_is_refused() -> None:
    b = builder()
    b.output("y", b.add1("relu", [b.input("x", floats(N, N))]))
    assert "has N on more axes than the first" in prove_rows(b.build()).refused_because


def test_output_that_is_the_same_for_all_rows_is_not_cut() -> None:
    b = builder()
    b.output("y", b.add1("relu", [b.input("x", floats(N, 3))]))
    b.output("labels", b.add1("identity", [b.constant(np.float32([1, 2]))]))
    proof = prove_rows(b.build())
    assert proof.symbol == "N"
    assert dict(proof.outputs) == {"y": 0}


def test_output_with_rows_on_another_axis_is_refused_by_name() -> None:
    b = builder()
    b.output("turned", b.add1("transpose", [b.input("x", floats(N, 3))], {"perm": (1, 0)}))
    assert prove_rows(b.build()).refused_because.startswith("output turned of shape [3, N]")


def test_graph_with_state_is_refused() -> None:
    b = builder()
    state = b.state("memory", floats(1, 3))
    b.output("y", b.add1("add", [b.input("x", floats(N, 3)), state]))
    assert "state memory persists" in prove_rows(b.build()).refused_because


def test_refused_operator_off_the_path_of_outputs_is_no_obstacle() -> None:
    """A result that nobody returns: the places of a pool beside its maxima."""
    b = builder()
    attributes = {"kernel": (2, 2), "strides": (2, 2), "dilations": (1, 1), "pads": (0, 0, 0, 0),
                  "ceil": False, "indices": True, "column_major": False}  # fmt: skip
    best, _places = b.add("max_pool", [b.input("x", floats(N, 1, 4, 4))], attributes)
    b.output("y", best)
    assert prove_rows(b.build()).symbol == "N"


def packed(*, pooled: bool, spread: bool = False) -> RowProof:
    b = GraphBuilder("text", {"tokens": 16, "rows": 4})
    ids = b.input("token_ids", TensorType(DType.INT32, (symbol("tokens"),)))
    offsets = b.input("row_offsets", TensorType(DType.INT32, (symbol("rows") + 1,)))
    table = b.constant(np.ones((9, 8), np.float32))
    hidden = b.add1("packed_embedding", [ids, offsets, table, b.constant(np.ones((16, 8), np.float32)), None])
    if spread:
        hidden = b.add1("softmax", [hidden], {"axis": 0})
    if pooled:
        hidden = b.add1("packed_pool", [hidden, offsets], {"mode": "mean"})
    b.output("y", hidden)
    return prove_rows(b.build())


def test_packed_text_has_rows_between_its_offsets() -> None:
    expected = RowProof(
        symbol="rows", packed="tokens", inputs={"token_ids": 0, "row_offsets": 0}, outputs={"y": 0}
    )
    assert packed(pooled=True) == expected


def test_packed_tokens_that_see_all_others_are_refused() -> None:
    assert "(softmax)" in packed(pooled=True, spread=True).refused_because


def test_packed_tokens_as_output_are_refused() -> None:
    """They would have to be cut by offsets."""
    assert packed(pooled=False).refused_because.startswith("output y of shape [tokens, 8]")


def test_rule_that_forgets_the_rows_is_caught_by_the_extents() -> None:
    """A wrong rule refuses; it proves nothing."""
    call = RowCall(
        operation="transpose", inputs=(floats(N, 3),), outputs=(floats(3, N),), attributes={"perm": (1, 0)},
        carried=(Rows(symbol="N", axis=0),), symbols=frozenset({"N"}),
    )  # fmt: skip
    (wrong,) = check_rows(call, (Rows(symbol="N", axis=0),))
    assert isinstance(wrong, str)
    assert "[3, N]" in wrong
    (right,) = check_rows(call, get_operation("transpose").rows(call))
    assert right == Rows(symbol="N", axis=1)
    (unanswered,) = check_rows(call, ())
    assert isinstance(unanswered, str)
