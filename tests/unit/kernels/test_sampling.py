"""Resizing, grids, regions and deformable windows: native code against numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from plumbline.contracts import dims
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import AttributeRefused, DTypeRefused, Inference, ShapeRefused
from plumbline.kernels.registry import get_operation
from plumbline.kernels.sampling.resize import CHOICES
from plumbline.testing.kernels import run_native, verify_operation


def numbers(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return (np.random.default_rng(sum(shape)).standard_normal(shape) * 3).astype(dtype)


def verify(name: str, *inputs: Any, symbolic: Mapping[Any, str] | None = None, **attributes: Any) -> None:
    verify_operation(get_operation(name), inputs, attributes, symbolic=symbolic)


def infer(name: str, *types: TensorType, **attributes: Any) -> tuple[TensorType, ...]:
    return get_operation(name).infer(Inference(operation=name, inputs=types, attributes=attributes))


def resizing(*shape: Any, **changes: Any) -> dict[str, Any]:
    """Attributes of `resize`."""
    plain: dict[str, Any] = {
        "shape": shape, "scales": (None,) * len(shape), "mode": "linear", "coordinates": "half_pixel",
        "nearest": "round_prefer_floor", "cubic_a": -0.75, "exclude_outside": False, "antialias": False,
        "extrapolation": 7.0, "roi": (),
    }  # fmt: skip
    return plain | changes


@pytest.mark.parametrize("mode", CHOICES["mode"])
@pytest.mark.parametrize("coordinates", CHOICES["coordinates"])
def test_resize_follows_every_coordinate_rule(mode: str, coordinates: str) -> None:
    x = numbers(2, 3, 5, 7)
    roi = (0.0, 0.0, 0.2, -0.1, 1.0, 1.0, 0.7, 1.3) if coordinates == "tf_crop_and_resize" else ()
    for spatial in ((9, 11), (3, 4), (1, 1)):
        rule: dict[str, Any] = {
            "mode": mode,
            "coordinates": coordinates,
            "roi": roi,
            "exclude_outside": spatial == (3, 4),
        }
        verify("resize", x, **resizing(2, 3, *spatial, **rule))
        symbolic = {(0, 0): "n", (0, 2): "h"}
        verify("resize", x, **resizing(dims.symbol("n"), 3, *spatial, **rule), symbolic=symbolic)


@pytest.mark.parametrize("nearest", CHOICES["nearest"])
def test_resize_to_the_nearest_element_breaks_ties_as_asked(nearest: str) -> None:
    x = numbers(2, 3, 5, 8, dtype=np.int8)
    attributes = resizing(2, 3, 10, 20, mode="nearest", nearest=nearest, coordinates="asymmetric")
    verify("resize", x, **attributes)
    verify("resize", x, **attributes, symbolic={(0, 2): "h", (0, 3): "w"})


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("exclude_outside", [False, True])
def test_resize_with_antialias_widens_the_filter(mode: str, exclude_outside: bool) -> None:
    rule: dict[str, Any] = {"mode": mode, "exclude_outside": exclude_outside, "antialias": True}
    verify("resize", numbers(2, 3, 15, 17), **resizing(2, 3, 4, 5, **rule))
    verify("resize", numbers(1, 5, 7), **resizing(1, 2, 13, scales=(1.0, 0.45, 1.9), **rule))


def test_resize_with_antialias_of_symbolic_extents_is_refused() -> None:
    x = numbers(1, 5, 7)
    with pytest.raises(ShapeRefused, match="antialias"):
        run_native(get_operation("resize"), [x], resizing(1, 2, 3, antialias=True), symbolic={(0, 1): "h"})


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float64"])
def test_resize_rounds_and_saturates_in_the_element_type(dtype: str) -> None:
    x = numbers(1, 4, 5, 19) * (1 if dtype.startswith("float") else 40)
    verify("resize", x.astype(dtype), **resizing(1, 9, 8, 19, mode="cubic"))


def test_resize_to_the_same_shape_copies() -> None:
    verify("resize", numbers(2, 3), **resizing(2, 3))
    verify("resize", numbers(2, 3), **resizing(0, 3))


def test_resize_by_an_unknown_mode_is_refused() -> None:
    with pytest.raises(AttributeRefused, match="area"):
        infer("resize", TensorType(DType.FLOAT32, (2, 3)), **resizing(2, 3, mode="area"))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align_corners", [False, True])
def test_grid_sample_reads_inside_and_outside(mode: str, padding: str, align_corners: bool) -> None:
    rule: dict[str, Any] = {"mode": mode, "padding": padding, "align_corners": align_corners}
    grid = np.random.default_rng(3).uniform(-2.5, 2.5, (2, 4, 3, 2)).astype(np.float32)
    verify("grid_sample", numbers(2, 3, 5, 6), grid, **rule)
    verify("grid_sample", numbers(2, 3, 5, 6), grid, **rule, symbolic={(0, 1): "c", (0, 2): "h", (1, 2): "w"})
    verify("grid_sample", numbers(1, 2, 3, 4, 2), numbers(1, 2, 2, 3, 3) / 3, **rule)


def test_grid_sample_at_absurd_coordinates_stays_inside_memory() -> None:
    grid = np.array([[[[np.nan, 0], [np.inf, 1], [-1e30, 1e30], [0, 0]]]], np.float32)
    for padding in ("zeros", "border", "reflection"):
        attributes = {"mode": "linear", "padding": padding, "align_corners": False}
        (result,) = run_native(
            get_operation("grid_sample"), [np.ones((1, 1, 3, 3), np.float32), grid], attributes
        )
        assert result[0, 0, 0, 3] == 1.0


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(4, 5), (2, 3, 4)])
def test_affine_grid_maps_regular_positions(align_corners: bool, size: tuple[int, ...]) -> None:
    verify("affine_grid", numbers(2, len(size), len(size) + 1), size=size, align_corners=align_corners)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("half_pixel", [False, True])
def test_roi_align_samples_regions(mode: str, sampling_ratio: int, half_pixel: bool) -> None:
    regions = np.array([[0, 0, 9, 7], [2.5, 1.5, 4, 20], [5, 5, 3, 3], [-9, -9, 30, 2]], np.float32)
    batches = np.array([0, 1, 9, -1])
    rule: dict[str, Any] = {
        "mode": mode,
        "sampling_ratio": sampling_ratio,
        "half_pixel": half_pixel,
        "spatial_scale": 0.7,
    }
    verify("roi_align", numbers(2, 3, 8, 9), regions, batches, height=3, width=4, **rule)
    verify(
        "roi_align", numbers(2, 3, 8, 9), regions, batches, height=3, width=4, **rule, symbolic={(0, 1): "c"}
    )


def test_max_roi_pool_takes_the_largest_of_each_bin() -> None:
    regions = np.array(
        [[0, 0, 0, 9, 7], [1, 2.4, 1.6, 4, 20], [0, 5, 5, 3, 3], [1, 90, 90, 99, 99]], np.float32
    )
    verify("max_roi_pool", numbers(2, 3, 8, 9), regions, pooled=(3, 2), spatial_scale=0.5)
    verify(
        "max_roi_pool", numbers(2, 3, 8, 9), regions, pooled=(2, 2), spatial_scale=1.0, symbolic={(0, 2): "h"}
    )


def test_max_unpool_puts_values_back_and_drops_strays() -> None:
    x, indices = numbers(2, 2, 2, 3), np.random.default_rng(1).integers(0, 30, (2, 2, 2, 3))
    indices += np.arange(4).reshape(2, 2, 1, 1) * 24
    verify("max_unpool", x, indices, inner=(4, 6), outer=(4, 6))
    verify("max_unpool", x, indices, inner=(4, 6), outer=(5, 5), symbolic={(0, 0): "n", (1, 0): "n"})


@pytest.mark.parametrize(("group", "offset_group"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_deform_conv_samples_its_window(group: int, offset_group: int) -> None:
    rule: dict[str, Any] = {"strides": (1, 2), "dilations": (2, 1), "before": (1, 0), "after": (0, 1)}
    rule |= {"group": group, "offset_group": offset_group}
    x, w = numbers(2, 4, 5, 6), numbers(4, 4 // group, 2, 3)
    offsets, mask = numbers(2, offset_group * 12, 4, 3), numbers(2, offset_group * 6, 4, 3)
    verify("deform_conv", x, w, offsets, **rule)
    verify("deform_conv", x, w, offsets, numbers(4), mask, **rule)


def test_sampling_of_integers_between_pixels_is_refused() -> None:
    x, grid = TensorType(DType.INT32, (1, 1, 4, 4)), TensorType(DType.FLOAT32, (1, 2, 2, 2))
    with pytest.raises(DTypeRefused, match="floats"):
        infer("grid_sample", x, grid, mode="linear", padding="zeros", align_corners=False)
