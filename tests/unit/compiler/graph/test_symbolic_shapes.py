"""Shape arithmetic is done at build: idioms that exporters write become dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.graph import TensorID
from plumbline.contracts import dims
from plumbline.contracts.dims import symbol
from plumbline.contracts.tensors import DType, TensorType

BATCH, TOKENS = symbol("batch"), symbol("tokens")


@pytest.fixture
def builder() -> GraphBuilder:
    return GraphBuilder("g", {"batch": 8, "tokens": 128})


def integers(builder: GraphBuilder, *values: int) -> TensorID:
    return builder.constant(np.array(values, np.int64))


def known(builder: GraphBuilder, tensor: TensorID) -> list[Any]:
    value = builder.find_value(tensor)
    assert value is not None
    return list(value.ravel())


def test_gather_and_concat_of_a_shape_stay_dimensions(builder: GraphBuilder) -> None:
    """Shape -> Gather -> Concat, the start of every exported Reshape."""
    shape = builder.symbolic([BATCH, TOKENS, 384])
    first = builder.add1("gather", [shape, integers(builder, 0)], {"axis": 0})
    whole = builder.add1("concat", [first, integers(builder, -1, 12, 32)], {"axis": 0})
    assert known(builder, whole) == [BATCH, -1, 12, 32]


def test_expand_idiom_of_exports_resolves(builder: GraphBuilder) -> None:
    """Where(Equal(shape, -1), ones, shape), which expand() exports to, is the shape itself."""
    shape = builder.symbolic([BATCH, 1, TOKENS])
    is_free = builder.add1("equal", [shape, integers(builder, -1, -1, -1)])
    ones = builder.add1("expand", [integers(builder, 1)], {"shape": (3,)})
    assert known(builder, builder.add1("where", [is_free, ones, shape])) == [BATCH, 1, TOKENS]


def test_arithmetic_on_dimensions_is_exact(builder: GraphBuilder) -> None:
    tokens = builder.symbolic([TOKENS])
    doubled = builder.add1("mul", [tokens, integers(builder, 2)])
    shifted = builder.add1("sub", [doubled, integers(builder, 3)])
    assert known(builder, shifted) == [dims.sub(dims.mul(TOKENS, 2), 3)]
    assert known(builder, builder.add1("div", [doubled, integers(builder, 2)])) == [TOKENS]
    assert known(builder, builder.add1("minimum", [tokens, tokens])) == [TOKENS]


def test_product_of_all_dimensions_is_the_number_of_elements(builder: GraphBuilder) -> None:
    shape = builder.symbolic([BATCH, TOKENS, 4])
    total = builder.add1("reduce_prod", [shape], {"axes": (0,), "keepdims": 0})
    assert known(builder, total) == [dims.product([BATCH, TOKENS, 4])]


def test_slices_and_casts_of_a_shape_are_followed(builder: GraphBuilder) -> None:
    shape = builder.symbolic([BATCH, TOKENS, 4])
    tail = builder.add1("slice", [shape], {"starts": (1,), "sizes": (2,), "steps": (1,)})
    assert known(builder, builder.add1("cast", [tail], {"to": "int32"})) == [TOKENS, 4]


def test_comparison_that_symbols_decide_is_not_guessed(builder: GraphBuilder) -> None:
    """batch == tokens may be true: the result stays an operator."""
    same = builder.add1("equal", [builder.symbolic([BATCH]), builder.symbolic([TOKENS])])
    assert builder.find_value(same) is None


def test_division_by_zero_is_not_computed_at_build(builder: GraphBuilder) -> None:
    zero = builder.add1("div", [builder.symbolic([TOKENS]), integers(builder, 0)])
    assert builder.find_value(zero) is None


def test_dimension_used_as_data_is_written_by_an_operator(builder: GraphBuilder) -> None:
    """A model may return its own shape."""
    builder.input("x", TensorType(DType.FLOAT32, (BATCH, TOKENS)))
    builder.output("shape", builder.symbolic([BATCH, TOKENS]))
    (node,) = builder.build().nodes
    assert node.operation == "symbolic_value"
    assert node.attributes["values"] == (BATCH, TOKENS)


def test_small_constants_are_folded_while_building(builder: GraphBuilder) -> None:
    a = builder.constant(np.array([1.5, 2.0], np.float32))
    result = builder.add1("mul", [a, a])
    found = builder.find_constant(result)
    assert found is not None
    np.testing.assert_array_equal(found, np.array([2.25, 4.0], np.float32))


def test_integers_wrap_around_as_in_native_code(builder: GraphBuilder) -> None:
    """A product that leaves its type is not kept as a larger number, and does not end the build."""
    large = builder.constant(np.array([2**62], np.int64))
    product = builder.add1("mul", [large, integers(builder, 4)])
    assert known(builder, product) == [0]
    narrow = builder.add1("cast", [integers(builder, 300)], {"to": "uint8"})
    assert known(builder, narrow) == [44]


@pytest.mark.parametrize(
    ("a", "b", "expected"), [(7, 2, 3), (-7, 2, -3), (7, -2, -3), (-7, -2, 3), (2**62, 3, 2**62 // 3)]
)
def test_integer_division_truncates(builder: GraphBuilder, a: int, b: int, expected: int) -> None:
    assert known(builder, builder.add1("div", [integers(builder, a), integers(builder, b)])) == [expected]
