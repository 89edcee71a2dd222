"""Converters of operators that read images between their pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from plumbline.compiler.graph.graph import TensorID
from plumbline.compiler.importers.onnx.movement import axis_of
from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.compiler.importers.onnx.registry import Converted, converts
from plumbline.contracts.dims import Dim, Expr, add, evaluate, floordiv, mul, sub

# -- resize


@converts("Upsample", since=7)
def upsample(node: NodeView) -> Converted:
    """Scales as an attribute (opset 7) or operand (9)."""
    scales = _positive(node, node.floats("scales") if node.opset < 9 else node.numbers(1).ravel().tolist())
    mode = node.string("mode", "nearest")
    return _add_resize(node, _scaled(node, scales), scales, mode, "asymmetric", nearest="floor")


@converts("Resize", since=10)
def resize_scales(node: NodeView) -> Converted:
    """Opset 10: scales only, as Upsample."""
    scales = _positive(node, node.numbers(1).ravel().tolist())
    mode = node.string("mode", "nearest")
    return _add_resize(node, _scaled(node, scales), scales, mode, "asymmetric", nearest="floor")


@converts("Resize", since=11)
def resize(node: NodeView) -> Converted:
    """Scales or sizes, of all axes or of some."""
    rank = node.rank(0)
    axes = tuple(axis_of(node, a, rank) for a in node.ints("axes", tuple(range(rank))))
    coordinates = node.string("coordinate_transformation_mode", "half_pixel")
    shape, scales = _target(node, axes)
    return _add_resize(
        node, shape, scales, node.string("mode", "nearest"), coordinates,
        nearest=node.string("nearest_mode", "round_prefer_floor"),
        cubic_a=node.float("cubic_coeff_a", -0.75),
        exclude_outside=node.int("exclude_outside", 0) == 1,
        antialias=node.int("antialias", 0) == 1,
        extrapolation=node.float("extrapolation_value", 0.0),
        roi=_roi(node, axes) if coordinates == "tf_crop_and_resize" else (),
    )  # fmt: skip


def _add_resize(
    node: NodeView,
    shape: Sequence[Dim],
    scales: Sequence[float | None],
    mode: str,
    coordinates: str,
    **rest: Any,
) -> TensorID:
    attributes = {
        "shape": tuple(shape), "scales": tuple(scales), "mode": mode, "coordinates": coordinates,
        "nearest": "floor", "cubic_a": -0.75, "exclude_outside": False, "antialias": False,
        "extrapolation": 0.0, "roi": (),
    }  # fmt: skip
    if len(shape) != node.rank(0):
        node.refuse(f"{len(shape)} scales or sizes for rank {node.rank(0)}")
    return node.add1("resize", [node.input(0)], attributes | rest)


def _positive(node: NodeView, numbers: Sequence[float]) -> tuple[float, ...]:
    for number in numbers:
        if not 0.0 < number < float("inf"):
            node.refuse(f"a scale of {number}")
    return tuple(float(n) for n in numbers)


def _scaled(node: NodeView, scales: Sequence[float]) -> tuple[Dim, ...]:
    """Extents times scales, rounded down; symbolic extents need whole scales or whole quotients."""
    return tuple(_scaled_extent(node, e, s) for e, s in zip(node.shape(0), scales, strict=False))


def _scaled_extent(node: NodeView, extent: Dim, scale: float) -> Dim:
    if isinstance(extent, int):
        return math.floor(extent * scale)
    if scale == int(scale):
        return mul(extent, int(scale))
    if scale > 0 and 1.0 / scale == int(1.0 / scale):
        return floordiv(extent, int(1.0 / scale))
    node.refuse_data_dependent(f"extent {extent} scaled by {scale}")


def _target(node: NodeView, axes: Sequence[int]) -> tuple[tuple[Dim, ...], tuple[float | None, ...]]:
    """Output shape and the scale of every axis."""
    given = node.optional(2)
    if given is not None and node.builder.type_of(given).elements != 0:
        scales: list[float | None] = [1.0] * node.rank(0)
        numbers = _positive(node, node.numbers(2).ravel().tolist())
        if len(numbers) != len(axes):
            node.refuse(f"{len(numbers)} scales for {len(axes)} axes")
        for axis, scale in zip(axes, numbers, strict=True):
            scales[axis] = scale
        return _scaled(node, [s for s in scales if s is not None]), tuple(scales)
    if node.optional(3) is None:
        node.refuse("neither scales nor sizes are given")
    return _sized(node, axes, node.dims(3), node.string("keep_aspect_ratio_policy", "stretch"))


def _sized(
    node: NodeView, axes: Sequence[int], sizes: Sequence[Dim], policy: str
) -> tuple[tuple[Dim, ...], tuple[float | None, ...]]:
    source = node.shape(0)
    shape = list(source)
    scales: list[float | None] = [None] * len(source)
    if len(sizes) != len(axes):
        node.refuse(f"{len(sizes)} sizes for {len(axes)} axes")
    if policy == "stretch":
        for axis, size in zip(axes, sizes, strict=True):
            shape[axis] = size
        return tuple(shape), tuple(scales)
    if policy not in ("not_larger", "not_smaller"):
        node.refuse(f"keep_aspect_ratio_policy {policy!r} is not defined")
    extents = [source[a] for a in axes]
    if any(isinstance(d, Expr) for d in (*extents, *sizes)) or 0 in extents:
        node.refuse_data_dependent("an aspect ratio of symbolic extents")
    ratios = [evaluate(s, {}) / evaluate(e, {}) for s, e in zip(sizes, extents, strict=True)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    for axis in axes:
        shape[axis], scales[axis] = math.floor(scale * evaluate(source[axis], {}) + 0.5), scale
    return tuple(shape), tuple(scales)


def _roi(node: NodeView, axes: Sequence[int]) -> tuple[float, ...]:
    rank = node.rank(0)
    region = [0.0] * rank + [1.0] * rank
    numbers = [float(v) for v in node.numbers(1).ravel()]
    if len(numbers) != 2 * len(axes):
        node.refuse(f"{len(numbers)} numbers of a region for {len(axes)} axes")
    for position, axis in enumerate(axes):
        region[axis], region[axis + rank] = numbers[position], numbers[position + len(axes)]
    return tuple(region)


# -- grids


@converts("GridSample", since=16)
def grid_sample(node: NodeView) -> Converted:
    """Read at normalised coordinates; opset 20 renamed the modes."""
    mode = node.string("mode", "bilinear" if node.opset < 20 else "linear")
    attributes = {
        "mode": {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode),
        "padding": node.string("padding_mode", "zeros"),
        "align_corners": node.int("align_corners", 0) == 1,
    }
    return node.add1("grid_sample", [node.input(0), node.input(1)], attributes)


@converts("AffineGrid", since=20)
def affine_grid(node: NodeView) -> Converted:
    """Regular positions under an affine map."""
    attributes = {"size": node.dims(1)[2:], "align_corners": node.int("align_corners", 0) == 1}
    return node.add1("affine_grid", [node.input(0)], attributes)


# -- regions


@converts("RoiAlign", since=10)
def roi_align(node: NodeView) -> Converted:
    """Opset 16 made the half-pixel shift an attribute and the default."""
    default = "output_half_pixel" if node.opset < 16 else "half_pixel"
    coordinates = default if node.opset < 16 else node.string("coordinate_transformation_mode", default)
    if coordinates not in ("half_pixel", "output_half_pixel"):
        node.refuse(f"coordinate_transformation_mode {coordinates!r} is not defined")
    attributes = {
        "height": node.int("output_height", 1), "width": node.int("output_width", 1),
        "mode": node.string("mode", "avg"), "sampling_ratio": node.int("sampling_ratio", 0),
        "spatial_scale": node.float("spatial_scale", 1.0), "half_pixel": coordinates == "half_pixel",
    }  # fmt: skip
    return node.add1("roi_align", [node.input(0), node.input(1), node.input(2)], attributes)


@converts("MaxRoiPool")
def max_roi_pool(node: NodeView) -> Converted:
    """The largest element of each bin."""
    attributes = {"pooled": node.ints("pooled_shape"), "spatial_scale": node.float("spatial_scale", 1.0)}
    return node.add1("max_roi_pool", [node.input(0), node.input(1)], attributes)


# -- windows


@converts("MaxUnpool", since=9)
def max_unpool(node: NodeView) -> Converted:
    """Values back to where a pooling found them."""
    kernel = node.ints("kernel_shape")
    count = len(kernel)
    strides, pads = node.ints("strides", (1,) * count), node.ints("pads", (0,) * (2 * count))
    if not len(strides) == len(pads) // 2 == count == node.rank(0) - 2:
        node.refuse(f"kernel_shape {kernel}, strides {strides} and pads {pads} for {node.type(0)}")
    inner = tuple(
        sub(add(mul(sub(extent, 1), strides[i]), kernel[i]), pads[i] + pads[i + count])
        for i, extent in enumerate(node.shape(0)[2:])
    )
    outer = inner if node.optional(2) is None else node.dims(2)[2:]
    return node.add1("max_unpool", [node.input(0), node.input(1)], {"inner": inner, "outer": outer})


@converts("DeformConv", since=19)
def deform_conv(node: NodeView) -> Converted:
    """A convolution whose window positions are data."""
    window = node.shape(1)[2:]
    if node.has("kernel_shape") and node.ints("kernel_shape") != window:
        node.refuse(f"kernel_shape {node.ints('kernel_shape')} beside weights {node.type(1)}")
    count = len(window)
    pads = node.ints("pads", (0,) * (2 * count))
    operands: list[TensorID | None] = [node.input(0), node.input(1), node.input(2)]
    operands += [node.optional(3), node.optional(4)]
    attributes = {
        "strides": node.ints("strides", (1,) * count), "dilations": node.ints("dilations", (1,) * count),
        "before": pads[:count], "after": pads[count:], "group": node.int("group", 1),
        "offset_group": node.int("offset_group", 1),
    }  # fmt: skip
    return node.add1("deform_conv", operands, attributes)
