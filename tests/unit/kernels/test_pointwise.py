"""Pointwise operations against numpy: element types, special values, broadcasting, symbolic extents."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from plumbline.compiler.lowering.codegen import compile_assembly
from plumbline.compiler.lowering.step_function import emit_step_function
from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import DTypeRefused, ShapeRefused
from plumbline.kernels.emit.ir import ModuleBuilder
from plumbline.kernels.emit.target import AVX2, NEON, TargetDescription
from plumbline.kernels.pointwise.functions import FUNCTIONS, Domain
from plumbline.kernels.registry import get_operation
from plumbline.testing.kernels import host_target, run_native, signature_of, verify_operation

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, -0.5, 1e-30, 88.5, -88.5, 104.0, -104.0,
           1e9, 1e20, 3e38, -1e20, 2.0, -2.0, 3.5, 2.5, -2.5, 1.5e5, 1e6]  # fmt: skip
PARAMS: dict[str, list[dict[str, Any]]] = {
    "power_by": [{"exponent": e} for e in (1, 2, 3, -1, 0.5, -0.5, 1.75, -2)],
    "bit_shift": [{"direction": "left"}, {"direction": "right"}],
    "clip": [{"low": -1, "high": 2}, {"low": 0}, {"high": 3}, {}],
    "mod": [{"fmod": 0}, {"fmod": 1}],
    "celu": [{"alpha": 2.0}],
    "elu": [{"alpha": 0.5}],
    "hard_sigmoid": [{}, {"alpha": 0.5, "beta": 0.25}],
    "is_inf": [{}, {"detect_positive": False}, {"detect_negative": False}],
    "swish": [{}, {"alpha": 1.75}],
    "swiglu": [{}, {"alpha": 0.5}],
    "shrink": [{}, {"lambd": 1.5, "bias": 1.0}],
    "thresholded_relu": [{"alpha": 2.0}],
}
CONVERSIONS = ("cast", "bit_cast")
FLOATS = [t for t in DType if t.is_float]


def accepts(domain: Domain, dtype: DType) -> bool:
    return {
        Domain.FLOAT: dtype.is_float,
        Domain.NUMBER: dtype is not DType.BOOL,
        Domain.INTEGER: dtype.is_integer,
        Domain.BOOL: dtype is DType.BOOL,
        Domain.BITS: not dtype.is_float,
        Domain.ANY: True,
    }[domain]


def samples(dtype: DType, turn: int, rng: np.random.Generator) -> np.ndarray:
    """347 values (an odd count) with the special values of the type; `turn` shifts them around."""
    if dtype is DType.BOOL:
        return rng.integers(0, 2, 347).astype(bool)
    if dtype.is_float:
        values = np.concatenate([SPECIAL, rng.normal(size=222) * 4, rng.uniform(-1, 1, 100)])
        with np.errstate(all="ignore"):
            return np.roll(values, 7 * turn).astype(
                ml_dtypes.bfloat16 if dtype is DType.BFLOAT16 else dtype.numpy
            )
    limits = np.iinfo(dtype.numpy)
    values = rng.integers(limits.min, limits.max, size=347, dtype=dtype.numpy, endpoint=True)
    values[::3] = rng.integers(-9 if dtype.is_signed else 0, 9, size=116)
    values[4:7] = (limits.max, limits.min, 0)
    if turn and dtype.is_signed:
        values[5] = -1
    return values


def operands(name: str, dtype: DType, rng: np.random.Generator) -> list[np.ndarray]:
    arrays = [samples(dtype, turn, rng) for turn in range(FUNCTIONS[name].arity)]
    if FUNCTIONS[name].selector:
        arrays[0] = samples(DType.BOOL, 0, rng)
    return arrays


CASES = [
    (name, dtype, params)
    for name, function in FUNCTIONS.items()
    if name not in CONVERSIONS
    for dtype in DType
    if accepts(function.domain, dtype)
    for params in PARAMS.get(name, [{}])
    if not (name == "clip" and not dtype.is_signed)
]


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n not in CONVERSIONS])
def test_function_on_every_element_type_agrees_with_numpy(name: str) -> None:
    """Special values, infinities and NaN included (requirement L1-02)."""
    rng = np.random.default_rng(7)
    for _, dtype, params in (case for case in CASES if case[0] == name):
        verify_operation(get_operation(name), operands(name, dtype, rng), params)


@pytest.mark.parametrize("source", list(DType))
def test_cast_between_all_types_agrees_with_the_definition(source: DType) -> None:
    values = samples(source, 0, np.random.default_rng(3))
    for to in DType:
        verify_operation(get_operation("cast"), [values], {"to": to.value})


def test_cast_of_float64_to_half_width_rounds_once() -> None:
    """A value just over a tie must not be rounded to float32 first, onto the tie, and then to even."""
    tie = 1.0 + 2.0**-11
    values = np.array([tie, tie + 2.0**-40, tie - 2.0**-40, -tie - 2.0**-40, 65520.0, 65519.999, 1e300])
    (half,) = run_native(get_operation("cast"), [values], {"to": "float16"})
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(half, values.astype(np.float16))
    verify_operation(get_operation("cast"), [1.0 + (values - 1.0) * 8], {"to": "bfloat16"})


def test_cast_of_floats_outside_an_integer_type_saturates() -> None:
    values = np.array([1e9, -1e9, np.nan, np.inf, -np.inf, 127.9, -128.9, 3.99], np.float32)
    (narrow,) = run_native(get_operation("cast"), [values], {"to": "int8"})
    np.testing.assert_array_equal(narrow, [127, -128, 0, 127, -128, 127, -128, 3])


@pytest.mark.parametrize("source", list(DType))
def test_bit_cast_keeps_every_bit(source: DType) -> None:
    values = samples(source, 0, np.random.default_rng(5))
    for to in DType:
        if to.size_bytes == source.size_bytes:
            verify_operation(get_operation("bit_cast"), [values], {"to": to.value})


def test_bit_cast_between_sizes_is_refused() -> None:
    with pytest.raises(DTypeRefused):
        run_native(get_operation("bit_cast"), [np.zeros(4, np.float32)], {"to": "int16"})


@pytest.mark.parametrize(
    ("left", "right"),
    [((5, 7), (7,)), ((5, 1), (1, 7)), ((3, 1, 5), (2, 1)), ((), (4,)), ((), ()), ((1,), (3, 1)),
     ((0, 3), (3,)),
     ((2, 3, 4, 5), (3, 1, 1)), ((2, 3, 4, 5), (2, 1, 4, 1)), ((33,), (1,)), ((4097,), (4097,))],
)  # fmt: skip
def test_operands_broadcast_like_numpy(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=left).astype(np.float32), rng.normal(size=right).astype(np.float32)
    verify_operation(get_operation("sub"), [x, y])
    verify_operation(get_operation("less"), [y, x])


@pytest.mark.parametrize("extent", [1, 5, 16, 37])
def test_symbolic_extents_give_the_bits_of_static_ones(extent: int) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(extent, 19)).astype(np.float32), rng.normal(size=19).astype(np.float32)
    for name in ("add", "pow", "sin"):
        inputs = [x, y][: FUNCTIONS[name].arity]
        symbolic = {(0, 0): "rows"}
        verify_operation(get_operation(name), inputs, symbolic=symbolic)
        (static,) = run_native(get_operation(name), inputs)
        (dynamic,) = run_native(get_operation(name), inputs, symbolic=symbolic)
        np.testing.assert_array_equal(static, dynamic)


@pytest.mark.skipif(host_target().architecture != "x86_64", reason="needs AVX2")
@pytest.mark.parametrize("dtype", FLOATS)
def test_narrower_target_agrees_with_numpy(dtype: DType) -> None:
    rng = np.random.default_rng(7)
    for name in ("exp", "log", "tanh", "erf", "sin", "atan", "gelu", "mod", "round"):
        verify_operation(get_operation(name), operands(name, dtype, rng), target=AVX2)


@pytest.mark.parametrize("target", [NEON, AVX2], ids=lambda t: t.name)
def test_every_function_compiles_for_every_target_without_a_compiler_runtime(
    target: TargetDescription,
) -> None:
    """Only the C library may be called: helpers of a compiler runtime are not linked."""
    rng = np.random.default_rng(7)
    for name, dtype, params in CASES:
        if dtype in (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16, DType.INT8):
            contract = get_operation(name)
            signature, _ = signature_of(contract, operands(name, dtype, rng), params)
            assert contract.kernel is not None
            module = ModuleBuilder()
            emit_step_function(module, "step", signature, contract.kernel, target, (), internal=False)
            assert "__" not in compile_assembly(module.text(), target), (name, dtype)


def test_float32_value_does_not_depend_on_its_place_in_a_vector() -> None:
    """Vector lanes and the scalar rest apply the same operations (requirement L1-05)."""
    values = samples(DType.FLOAT32, 0, np.random.default_rng(11))
    for name in ("exp", "log", "tanh", "gelu", "sin", "tan", "acosh", "softplus", "erf"):
        (straight,) = run_native(get_operation(name), [values])
        (shifted,) = run_native(get_operation(name), [values[5:]])
        np.testing.assert_array_equal(straight[5:], shifted, err_msg=name)


def test_fused_chain_equals_its_steps() -> None:
    program = (("mul", (0, 1), ()), ("clip", (2,), (("low", 0.0), ("high", 6.0))),
               ("cast", (3,), (("to", "int32"),)))  # fmt: skip
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(9, 33)).astype(np.float32) * 5, rng.normal(size=(9, 1)).astype(np.float32)
    verify_operation(get_operation("fused_map"), [x, y], {"program": program})


def test_unfit_operands_are_refused_by_name() -> None:
    with pytest.raises(DTypeRefused, match="sqrt"):
        run_native(get_operation("sqrt"), [np.zeros(3, np.int32)])
    with pytest.raises(DTypeRefused, match="add"):
        run_native(get_operation("add"), [np.zeros(3, np.int32), np.zeros(3, np.float32)])
    with pytest.raises(ShapeRefused, match="broadcast"):
        run_native(get_operation("add"), [np.zeros(3, np.int32), np.zeros(4, np.int32)])
