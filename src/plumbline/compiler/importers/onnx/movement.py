"""Converters of operators that rearrange, repeat or surround elements."""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.compiler.graph.graph import TensorID
from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.compiler.importers.onnx.registry import Converted, converts
from plumbline.contracts.dims import Dim, Expr, floordiv, mul, product, sub
from plumbline.kernels.movement.bounds import resolve_slice


def axis_of(node: NodeView, axis: int, rank: int) -> int:
    """An axis counted from the front.

    Raises:
        NodeRefused: there is no such axis.
    """
    if not -rank <= axis < rank:
        node.refuse(f"axis {axis} of a tensor of rank {rank}")
    return axis % rank


# -- views


@converts("Reshape", since=5)
def reshape(node: NodeView) -> Converted:
    """0 copies a dimension, -1 takes what is left."""
    wanted, source = node.dims(1), node.shape(0)
    keep_zero = node.int("allowzero", 0) == 1
    shape: list[Dim] = []
    for axis, dim in enumerate(wanted):
        if dim == 0 and not keep_zero:
            if axis >= len(source):
                node.refuse(f"shape entry {axis} copies a dimension that {node.type(0)} has not")
            dim = source[axis]
        if isinstance(dim, int) and dim < -1:
            node.refuse(f"shape entry {axis} is {dim}")
        shape.append(dim)
    return node.reshape(node.input(0), _with_rest(node, shape, product(source)))


def _with_rest(node: NodeView, shape: list[Dim], elements: Dim) -> tuple[Dim, ...]:
    """Replace the -1."""
    open_axes = [axis for axis, dim in enumerate(shape) if dim == -1]
    if len(open_axes) > 1:
        node.refuse("more than one -1 in the shape")
    if open_axes:
        known = product(d for d in shape if d != -1)
        if known == 0:
            node.refuse("-1 beside a dimension of 0")
        shape[open_axes[0]] = floordiv(elements, known)
    return tuple(shape)


@converts("Flatten")
def flatten(node: NodeView) -> Converted:
    """Two axes: everything before `axis` and the rest."""
    source = node.shape(0)
    axis = node.int("axis", 1)
    if not -len(source) <= axis <= len(source):
        node.refuse(f"axis {axis} of a tensor of rank {len(source)}")
    axis = axis + len(source) if axis < 0 else axis
    return node.reshape(node.input(0), (product(source[:axis]), product(source[axis:])))


def _axes(node: NodeView, since_input: int) -> tuple[int, ...] | None:
    """Axes from the attribute, or from input 1 in newer opsets."""
    if node.opset < since_input:
        return node.ints("axes") if node.has("axes") else None
    return None if node.optional(1) is None else node.integers(1)


@converts("Squeeze")
def squeeze(node: NodeView) -> Converted:
    """Drop axes of extent 1."""
    source, axes = node.shape(0), _axes(node, 13)
    if axes is None:
        dropped = {i for i, e in enumerate(source) if e == 1}
    else:
        dropped = {axis_of(node, a, len(source)) for a in axes}
    for axis in dropped:
        if source[axis] != 1:
            node.refuse(f"axis {axis} has extent {source[axis]}, not 1")
    return node.reshape(node.input(0), [e for i, e in enumerate(source) if i not in dropped])


@converts("Unsqueeze")
def unsqueeze(node: NodeView) -> Converted:
    """Insert axes of extent 1."""
    source, axes = node.shape(0), _axes(node, 13)
    if axes is None:
        node.refuse("axes are missing")
    rank = len(source) + len(axes)
    inserted = {axis_of(node, a, rank) for a in axes}
    if len(inserted) != len(axes):
        node.refuse(f"axes {axes} repeat")
    rest = iter(source)
    return node.reshape(node.input(0), [1 if i in inserted else next(rest) for i in range(rank)])


# -- rearranging


@converts("Transpose")
def transpose(node: NodeView) -> Converted:
    """Axes in the order of `perm`, reversed by default."""
    rank = node.rank(0)
    perm = node.ints("perm", tuple(reversed(range(rank))))
    return node.add1("transpose", [node.input(0)], {"perm": tuple(axis_of(node, p, rank) for p in perm)})


@converts("Concat")
def concat(node: NodeView) -> Converted:
    """Join along an axis."""
    axis = axis_of(node, node.int("axis", 1), node.rank(0))
    parts = [node.input(i) for i in range(len(node.inputs))]
    return node.add1("concat", parts, {"axis": axis}) if len(parts) > 1 else parts[0]


@converts("Slice")
def slice_by_attributes(node: NodeView) -> Converted:
    """Bounds as attributes."""
    starts, ends = node.ints("starts"), node.ints("ends")
    axes = node.ints("axes", tuple(range(len(starts))))
    return add_slice(node, node.input(0), starts, ends, axes, (1,) * len(starts))


@converts("Slice", since=10)
def slice_by_inputs(node: NodeView) -> Converted:
    """Bounds as operands that are known at build."""
    starts, ends = node.dims(1), node.dims(2)
    axes = node.integers(3) if node.optional(3) is not None else tuple(range(len(starts)))
    steps = node.integers(4) if node.optional(4) is not None else (1,) * len(starts)
    return add_slice(node, node.input(0), starts, ends, axes, steps)


def add_slice(
    node: NodeView,
    tensor: TensorID,
    starts: Sequence[Dim],
    ends: Sequence[Dim],
    axes: Sequence[int],
    steps: Sequence[int],
) -> TensorID:
    """A `slice` with ONNX bounds resolved to starts and sizes of every axis."""
    shape = node.builder.type_of(tensor).shape
    firsts: list[Dim] = [0] * len(shape)
    sizes, strides = list(shape), [1] * len(shape)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        node.refuse("starts, ends, axes and steps differ in length")
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step == 0:
            node.refuse("a step of 0")
        axis = axis_of(node, axis, len(shape))
        firsts[axis], sizes[axis] = resolve_slice(shape[axis], start, end, step, node.builder.symbols)
        strides[axis] = step
        if sizes[axis] == 0:
            firsts[axis] = 0
    if tuple(sizes) == tuple(shape) and all(s == 1 for s in strides):
        return tensor
    return node.add1(
        "slice", [tensor], {"starts": tuple(firsts), "sizes": tuple(sizes), "steps": tuple(strides)}
    )


@converts("Split", since=2)
def split(node: NodeView) -> Converted:
    """Parts of given sizes, or equal ones with a smaller last."""
    axis = axis_of(node, node.int("axis", 0), node.rank(0))
    extent, count = node.shape(0)[axis], node.output_count
    sizes: Sequence[Dim] | None = None
    if node.opset < 13 and node.has("split"):
        sizes = node.ints("split")
    elif node.opset >= 13 and node.optional(1) is not None:
        sizes = node.dims(1)
    if sizes is None:
        if node.int("num_outputs", count) != count:
            node.refuse(f"num_outputs is {node.int('num_outputs')} beside {count} outputs")
        sizes = _equal_parts(node, extent, count)
    return node.add("split", [node.input(0)], {"axis": axis, "sizes": tuple(sizes)})


def _equal_parts(node: NodeView, extent: Dim, count: int) -> tuple[Dim, ...]:
    if count < 1:
        node.refuse(f"{count} parts")
    if isinstance(extent, Expr):
        part = floordiv(extent, count)
        if mul(part, count) != extent:
            node.refuse_data_dependent(f"{extent} elements in {count} parts")
        return (part,) * count
    part = -(-extent // count)
    return tuple(min(part, max(0, extent - i * part)) for i in range(count))


@converts("DepthToSpace")
def depth_to_space(node: NodeView) -> Converted:
    """Channels into blocks of pixels."""
    attributes = {"blocksize": node.int("blocksize"), "mode": node.string("mode", "DCR")}
    return node.add1("depth_to_space", [node.input(0)], attributes)


@converts("SpaceToDepth")
def space_to_depth(node: NodeView) -> Converted:
    """Blocks of pixels into channels."""
    attributes = {"blocksize": node.int("blocksize"), "mode": node.string("mode", "DCR")}
    return node.add1("space_to_depth", [node.input(0)], attributes)


@converts("ReverseSequence", since=10)
def reverse_sequence(node: NodeView) -> Converted:
    """The first elements of each sequence backwards."""
    attributes = {"batch_axis": node.int("batch_axis", 1), "time_axis": node.int("time_axis", 0)}
    return node.add1("reverse_sequence", [node.input(0), node.input(1)], attributes)


# -- repeating


@converts("Expand", since=8)
def expand(node: NodeView) -> Converted:
    """Broadcast with a shape, both ways."""
    source, wanted = node.shape(0), node.dims(1)
    rank = max(len(source), len(wanted))
    left = (*(1,) * (rank - len(source)), *source)
    right = (*(1,) * (rank - len(wanted)), *wanted)
    shape: list[Dim] = []
    for a, b in zip(left, right, strict=True):
        if a != b and 1 not in (a, b):
            node.refuse(f"{node.type(0)} does not broadcast with {wanted}")
        shape.append(b if a == 1 else a)
    if tuple(shape) == source:
        return node.input(0)
    return node.add1("expand", [node.input(0)], {"shape": tuple(shape)})


@converts("Tile", since=6)
def tile(node: NodeView) -> Converted:
    """Whole copies side by side."""
    return node.add1("tile", [node.input(0)], {"repeats": node.dims(1)})


@converts("Pad", since=2)
def pad_by_attributes(node: NodeView) -> Converted:
    """Pads and constant as attributes."""
    value = node.float("value", 0.0)
    fill = node.scalar(value, node.type(0).dtype) if value != 0.0 else None
    return _add_pad(node, node.ints("pads"), tuple(range(node.rank(0))), fill)


@converts("Pad", since=11)
def pad_by_inputs(node: NodeView) -> Converted:
    """Pads known at build, the constant as data."""
    axes = tuple(range(node.rank(0)))
    if node.optional(3) is not None:
        axes = tuple(axis_of(node, a, node.rank(0)) for a in node.integers(3))
    return _add_pad(node, node.dims(1), axes, node.optional(2))


def _add_pad(node: NodeView, pads: Sequence[Dim], axes: Sequence[int], fill: TensorID | None) -> TensorID:
    rank = node.rank(0)
    before: list[Dim] = [0] * rank
    after: list[Dim] = [0] * rank
    if len(pads) != 2 * len(axes):
        node.refuse(f"{len(pads)} pads for {len(axes)} axes")
    for position, axis in enumerate(axes):
        before[axis], after[axis] = pads[position], pads[position + len(axes)]
    mode = node.string("mode", "constant")
    inputs = [node.input(0), fill] if mode == "constant" and fill is not None else [node.input(0)]
    return node.add1("pad", inputs, {"before": tuple(before), "after": tuple(after), "mode": mode})


@converts("CenterCropPad", since=18)
def center_crop_pad(node: NodeView) -> Converted:
    """Crop or pad each axis about its centre."""
    shape, wanted = node.shape(0), node.dims(1)
    axes = node.ints("axes", tuple(range(len(shape))))
    if len(axes) != len(wanted):
        node.refuse(f"{len(wanted)} extents for {len(axes)} axes")
    before: list[Dim] = [0] * len(shape)
    after: list[Dim] = [0] * len(shape)
    for axis, extent in zip((axis_of(node, a, len(shape)) for a in axes), wanted, strict=True):
        missing = sub(extent, shape[axis])
        if isinstance(missing, Expr):
            node.refuse_data_dependent(f"axis {axis}: {shape[axis]} to {extent} may crop or pad")
        before[axis] = missing // 2 if missing >= 0 else -(-missing // 2)
        after[axis] = sub(missing, before[axis])
    attributes = {"before": tuple(before), "after": tuple(after), "mode": "constant"}
    return node.add1("pad", [node.input(0)], attributes)


@converts("Col2Im", since=18)
def col2im(node: NodeView) -> Converted:
    """Sum sliding blocks into an image."""
    image, block = node.dims(1), node.integers(2)
    count = len(block)
    pads = node.ints("pads", (0,) * (2 * count))
    return node.add1(
        "col2im",
        [node.input(0)],
        {
            "image": image, "block": block, "strides": node.ints("strides", (1,) * count),
            "dilations": node.ints("dilations", (1,) * count), "before": pads[:count], "after": pads[count:],
        },
    )  # fmt: skip


__all__ = ["add_slice", "axis_of"]
