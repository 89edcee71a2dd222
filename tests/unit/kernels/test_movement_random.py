"""Random shapes, permutations, slices and pads: native code equals numpy (L1-02, bit for bit)."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plumbline.kernels.registry import get_operation
from plumbline.testing.kernels import verify_operation

FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
DTYPES = st.sampled_from(["float32", "uint8", "int64", "float16", "bool"])
EXTENTS = st.sampled_from([0, 1, 2, 3, 5, 8, 16, 17, 33, 40])


def numbers(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return (np.arange(int(np.prod(shape))) % 251 - 100).reshape(shape).astype(dtype)


def symbols(draw: Any, rank: int) -> dict[tuple[int, int], str]:
    """Some axes of input 0 become run-time values."""
    chosen = draw(st.sets(st.integers(0, max(rank - 1, 0)))) if rank else set()
    return {(0, axis): f"s{axis}" for axis in chosen}


@FEW
@given(st.data())
def test_any_permutation_of_any_shape_equals_numpy(data: Any) -> None:
    shape = tuple(data.draw(st.lists(EXTENTS, max_size=4)))
    perm = tuple(data.draw(st.permutations(range(len(shape)))))
    x = numbers(shape, data.draw(DTYPES))
    verify_operation(get_operation("transpose"), [x], {"perm": perm}, symbolic=symbols(data.draw, x.ndim))


@FEW
@given(st.data())
def test_any_box_of_any_shape_equals_numpy(data: Any) -> None:
    shape = tuple(data.draw(st.lists(EXTENTS, min_size=1, max_size=4)))
    starts, sizes, steps = [], [], []
    for extent in shape:
        step = data.draw(st.sampled_from([1, 1, 2, -1, -3]))
        start = data.draw(st.integers(0, max(extent - 1, 0)))
        room = (extent - 1 - start) // step if step > 0 else start // -step
        sizes.append(0 if extent == 0 else data.draw(st.integers(0, room + 1)))
        starts.append(start)
        steps.append(step)
    attributes = {"starts": tuple(starts), "sizes": tuple(sizes), "steps": tuple(steps)}
    x = numbers(shape, data.draw(DTYPES))
    verify_operation(get_operation("slice"), [x], attributes, symbolic=symbols(data.draw, x.ndim))


@FEW
@given(st.data())
def test_any_pad_of_any_shape_equals_numpy(data: Any) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=4)))
    before = tuple(data.draw(st.integers(-(e // 2), 25)) for e in shape)
    after = tuple(data.draw(st.integers(-((e - 1) // 2), 25)) for e in shape)
    mode = data.draw(st.sampled_from(["constant", "edge", "reflect", "wrap"]))
    x = numbers(shape, data.draw(DTYPES))
    attributes = {"mode": mode, "before": before, "after": after}
    verify_operation(get_operation("pad"), [x], attributes, symbolic=symbols(data.draw, x.ndim))


@FEW
@given(st.data())
def test_any_concatenation_equals_numpy(data: Any) -> None:
    shape = tuple(data.draw(st.lists(EXTENTS, min_size=1, max_size=4)))
    axis = data.draw(st.integers(0, len(shape) - 1))
    dtype = data.draw(DTYPES)
    extents = data.draw(st.lists(EXTENTS, min_size=1, max_size=4))
    parts = [numbers((*shape[:axis], extent, *shape[axis + 1 :]), dtype) for extent in extents]
    verify_operation(get_operation("concat"), parts, {"axis": axis})
