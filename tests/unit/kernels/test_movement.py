"""Data movement: native code against numpy, bit by bit, for static and run-time extents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from plumbline.contracts import dims
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import AttributeRefused, Inference, ShapeRefused
from plumbline.kernels.emit.target import AVX2
from plumbline.kernels.movement.bounds import resolve_slice
from plumbline.kernels.registry import get_operation
from plumbline.testing.kernels import run_native, verify_operation

SYMBOLS = {(0, 0): "a", (0, 1): "b", (0, 2): "c"}
B, C = dims.symbol("b"), dims.symbol("c")


def numbers(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """Distinct-looking values of any element type."""
    return (np.random.default_rng(len(shape)).standard_normal(shape) * 50).astype(dtype)


def verify(
    name: str, *inputs: np.ndarray | None, symbolic: Mapping[Any, str] | None = None, **attributes: Any
) -> None:
    verify_operation(get_operation(name), inputs, attributes, symbolic=symbolic)


def infer(name: str, *types: TensorType, **attributes: Any) -> tuple[TensorType, ...]:
    return get_operation(name).infer(Inference(operation=name, inputs=types, attributes=attributes))


@pytest.mark.parametrize("perm", [(0, 2, 1), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
@pytest.mark.parametrize("dtype", ["float32", "uint8", "float64", "float16", "bool"])
def test_transpose_of_odd_extents_equals_numpy(perm: tuple[int, ...], dtype: str) -> None:
    x = numbers(3, 37, 45, dtype=dtype)
    verify("transpose", x, perm=perm)
    verify("transpose", x, perm=perm, symbolic=SYMBOLS)


def test_transpose_for_a_narrower_target_equals_numpy() -> None:
    verify_operation(get_operation("transpose"), [numbers(19, 23)], {"perm": (1, 0)}, target=AVX2)


def test_transpose_with_a_repeated_axis_is_refused() -> None:
    with pytest.raises(AttributeRefused, match="permutation"):
        infer("transpose", TensorType(DType.FLOAT32, (2, 3)), perm=(0, 0))


@pytest.mark.parametrize("x", [numbers(), numbers(0, 3), numbers(50_001)], ids=["0-d", "empty", "long"])
def test_copy_moves_every_element(x: np.ndarray) -> None:
    verify("copy", x)


def test_movement_keeps_the_payload_of_nan() -> None:
    payload = np.array([0x7FC12345, 0xFF800001], np.uint32).view(np.float32)
    (moved,) = run_native(get_operation("copy"), [payload])
    assert moved.view(np.uint32).tolist() == [0x7FC12345, 0xFF800001]


def test_reshape_is_a_view_with_equal_elements() -> None:
    (result,) = infer("reshape", TensorType(DType.INT8, (2, B, 3)), shape=(B, 6))
    assert result.shape == (B, 6)
    assert get_operation("reshape").is_view
    with pytest.raises(ShapeRefused):
        infer("reshape", TensorType(DType.INT8, (2, 3)), shape=(7,))


@pytest.mark.parametrize(
    ("starts", "sizes", "steps"),
    [
        ((0, 36, 2), (3, 19, 20), (1, -2, 2)),
        ((0, 36, 44), (3, 19, 45), (1, -2, -1)),
        ((1, 0, 40), (2, 37, 5), (1, 1, 1)),
        ((0, 0, 0), (3, 0, 45), (1, 1, 1)),
    ],
)
def test_slice_walks_any_step(starts: Any, sizes: Any, steps: Any) -> None:
    for symbolic in (None, SYMBOLS):
        verify("slice", numbers(3, 37, 45), starts=starts, sizes=sizes, steps=steps, symbolic=symbolic)


@pytest.mark.parametrize(("start", "size", "step"), [(0, 5, 1), (3, 2, 1), (0, 5, -1), (-1, 1, 1), (0, 2, 4)])
def test_slice_outside_the_tensor_is_refused(start: int, size: int, step: int) -> None:
    with pytest.raises(ShapeRefused, match="outside"):
        infer("slice", TensorType(DType.INT8, (4,)), starts=(start,), sizes=(size,), steps=(step,))


@pytest.mark.parametrize("extent", [0, 1, 5])
@pytest.mark.parametrize("step", [1, 2, -1, -3])
def test_resolved_slices_equal_python_slices(extent: int, step: int) -> None:
    for start in (-9, -2, 0, 1, 4, 9):
        for end in (-9, -2, 0, 3, 2**63 - 1, -(2**63)):
            first, size = resolve_slice(extent, start, end, step, {})
            expected = list(range(extent))[start:end:step]
            assert [dims.add(first, step * i) for i in range(dims.evaluate(size, {}))] == expected


def test_slice_up_to_a_bounded_symbol_has_that_extent() -> None:
    assert resolve_slice(512, 0, C, 1, {"c": 512}) == (0, C)
    assert resolve_slice(C, 0, 2**63 - 1, 1, {"c": 512}) == (0, C)


def test_split_parts_lie_side_by_side() -> None:
    verify("split", numbers(3, 37, 45), axis=1, sizes=(1, 30, 0, 6))
    verify("split", numbers(3, 37, 45), axis=-1, sizes=(C - 5, 5), symbolic=SYMBOLS)


def test_split_that_misses_elements_is_refused() -> None:
    with pytest.raises(ShapeRefused, match="split an axis"):
        infer("split", TensorType(DType.INT8, (4,)), axis=0, sizes=(1, 2))


def test_concat_joins_wide_narrow_and_empty_parts() -> None:
    x = numbers(3, 37, 45)
    verify("concat", x, x[:, :1], x[:, :0], axis=1)
    symbolic = {(0, 1): "b", (1, 1): "b", (2, 1): "b", (2, 2): "c"}
    verify("concat", x[:, :, :1], x[:, :, 1:2], x, axis=2, symbolic=symbolic)


def test_concat_of_unlike_shapes_is_refused() -> None:
    with pytest.raises(ShapeRefused, match="does not fit"):
        infer("concat", TensorType(DType.INT8, (4, 2)), TensorType(DType.INT8, (4, 3)), axis=0)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_equals_numpy(mode: str) -> None:
    verify("depth_to_space", numbers(2, 18, 5, 7), blocksize=3, mode=mode)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_space_to_depth_equals_numpy(mode: str) -> None:
    verify("space_to_depth", numbers(2, 3, 6, 8), blocksize=2, mode=mode)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_expand_repeats_any_axis(axis: int) -> None:
    x = numbers(3, 37, 45).take([0], axis=axis)
    verify("expand", x, shape=(4, 3, 37, 45))


def test_tile_repeats_static_and_symbolic_counts() -> None:
    x = numbers(3, 37, 5)
    verify("tile", x, repeats=(2, 1, 3))
    verify("tile", x, repeats=(2, B, 3), symbolic=SYMBOLS)
    verify("tile", x, repeats=(0, 1, 1))


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
@pytest.mark.parametrize(
    ("before", "after"), [((0, 1, 2), (0, 3, 4)), ((1, -2, 30), (2, 5, 60)), ((-1, -2, -3), (0, 0, -4))]
)
def test_pad_extends_and_crops_in_every_mode(mode: str, before: Any, after: Any) -> None:
    for symbolic in (None, SYMBOLS):
        verify("pad", numbers(3, 7, 25), mode=mode, before=before, after=after, symbolic=symbolic)


def test_pad_writes_its_constant_input() -> None:
    fill = np.array(np.nan, np.float16)
    verify("pad", numbers(3, 5, dtype=np.float16), fill, mode="constant", before=(1, 0), after=(0, 2))
    verify("pad", numbers(0, 5), None, mode="constant", before=(1, 0), after=(0, 2))


def test_constant_of_shape_fills_any_rank() -> None:
    verify("constant_of_shape", np.array([np.nan], np.float32), shape=(3, 5000))
    verify("constant_of_shape", np.array([7], np.int64), shape=())


def test_range_counts_in_its_element_type() -> None:
    verify("range", np.array(1.5, np.float32), np.array(-0.25, np.float32), size=5000)
    verify("range", np.array(1, np.int32), np.array(-25, np.int32), size=50)
    verify("range", size=50, start=3, step=2, dtype="int64")


@pytest.mark.parametrize("k", [-2, 0, 20])
def test_eye_sets_one_diagonal(k: int) -> None:
    verify("eye", shape=(5, 7), k=k, dtype="float32")


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_hot_wraps_negative_indices_and_ignores_others(axis: int) -> None:
    indices = np.random.default_rng(1).integers(-12, 12, (4, 6))
    verify("one_hot", indices, np.array([2, 5], np.float32), depth=10, axis=axis, symbolic=SYMBOLS)


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("k", [None, 3, -50, 2**62])
def test_trilu_keeps_one_triangle(upper: bool, k: int | None) -> None:
    diagonal = None if k is None else np.array(k, np.int64)
    verify("trilu", numbers(3, 7, 45), diagonal, upper=upper, symbolic=SYMBOLS)


@pytest.mark.parametrize("batch_axis", [0, 1])
def test_reverse_sequence_clamps_lengths(batch_axis: int) -> None:
    x = numbers(3, 9, 5) if batch_axis == 0 else numbers(9, 3, 5)
    lengths = np.array([0, 50, 7])
    verify("reverse_sequence", x, lengths, batch_axis=batch_axis, time_axis=1 - batch_axis)


def test_col2im_sums_overlapping_blocks() -> None:
    ones, zeros = (1, 1), (0, 0)
    plain: dict[str, Any] = {"strides": ones, "dilations": ones, "before": zeros, "after": zeros}
    verify("col2im", numbers(2, 18, 16), image=(6, 6), block=(3, 3), **plain)
    verify("col2im", numbers(2, 12, 8, dtype=np.int32), image=(5, 6), block=(2, 3), strides=(2, 1),
           dilations=(2, 1), before=(1, 0), after=zeros)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("transpose", {"perm": ()}),
        ("expand", {"shape": ()}),
        ("expand", {"shape": (2, 3)}),
        ("tile", {"repeats": ()}),
        ("slice", {"starts": (), "sizes": (), "steps": ()}),
        ("pad", {"mode": "constant", "before": (), "after": ()}),
        ("pad", {"mode": "edge", "before": (), "after": ()}),
    ],
)
def test_scalars_keep_their_rank(name: str, attributes: dict[str, Any]) -> None:
    verify(name, np.array(3.5, np.float32), **attributes)


def test_one_hot_of_a_scalar_is_a_line() -> None:
    verify("one_hot", np.array(2), np.array([0, 1], np.float32), depth=4, axis=-1)


def test_bfloat16_moves_and_generates_as_numbers() -> None:
    x = numbers(5, 40, dtype=ml_dtypes.bfloat16)
    verify("transpose", x, perm=(1, 0))
    verify("pad", x, np.array(1.5, ml_dtypes.bfloat16), mode="constant", before=(1, 0), after=(0, 2))
    verify("range", np.array(1, ml_dtypes.bfloat16), np.array(0.5, ml_dtypes.bfloat16), size=30)
    verify("eye", shape=(3, 4), k=0, dtype="bfloat16")
