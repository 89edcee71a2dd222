"""Move float32 image operators to channel-blocked tensors.

An operator moves when its extents are known (the number of images may be symbolic) and a blocked kernel exists. Every
moved operator is followed by the way back to row-major; what nobody reads is dropped, so that a chain of moved
operators stays blocked. Halos are decided later, by `assign_halos`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from plumbline.compiler.graph.derived import DerivedConstant
from plumbline.compiler.graph.graph import ExecutionGraph, OperatorNode, TensorID
from plumbline.compiler.passes.editor import GraphEditor
from plumbline.compiler.passes.programs import map_program
from plumbline.compiler.passes.report import PassReport
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import ROW_MAJOR, Blocked, DType, Packed, TensorType
from plumbline.kernels.blocked.convolution import conv_tiling
from plumbline.kernels.blocked.grouped import group_entries
from plumbline.kernels.blocked.packing import (
    conv_elements,
    depthwise_elements,
    grouped_elements,
    pack_conv,
    pack_conv_planar,
    pack_depthwise,
    pack_grouped,
)
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.pointwise.functions import FUNCTIONS

__all__ = ["lay_out_images"]

MOST_PLANAR_CHANNELS = 4
"""Convolutions of so few channels read the row-major image directly."""


def lay_out_images(graph: ExecutionGraph, target: TargetDescription, report: PassReport) -> ExecutionGraph:
    """See the module docstring."""
    mover = _Mover(GraphEditor(graph), target, report)
    for node in graph.nodes:
        move = _MOVES.get(node.operation)
        if move is None and node.operation in FUNCTIONS:
            move = _move_map
        if move is not None and move(mover, node):
            report.note("lay_out_images", "laid_out", node.name, f"{node.operation} on blocked channels")
    return mover.editor.finish()


@dataclass(slots=True)
class _Mover:
    """The state of one run: blocked twins of row-major tensors."""

    editor: GraphEditor
    target: TargetDescription
    report: PassReport
    twins: dict[TensorID, TensorID] = field(default_factory=dict)

    @property
    def layout(self) -> Blocked:
        return Blocked(block=self.target.float_lanes)

    def image(self, tensor: TensorID) -> TensorID:
        """The blocked twin of a row-major image, made where there is none."""
        if tensor not in self.twins:
            (self.twins[tensor],) = self.editor.add_node(
                "block_image", [tensor], name=f"{tensor}/block", layouts=[self.layout]
            )
        return self.twins[tensor]

    def replace(
        self,
        node: OperatorNode,
        operation: str,
        inputs: Sequence[TensorID | None],
        attributes: Mapping[str, Any],
    ) -> None:
        """Put a blocked operator in place of `node`, and the way back behind it."""
        result = node.outputs[0]
        self.editor.remove(node)
        (blocked,) = self.editor.add_node(
            operation, inputs, attributes, name=node.name, layouts=[self.layout], sources=node.sources
        )
        self.twins[result] = blocked
        back = "unblock_view" if self._is_dense(result) else "unblock_image"
        self.editor.add_node(back, [blocked], name=f"{node.name}/unblock", outputs=[result])

    def _is_dense(self, tensor: TensorID) -> bool:
        """Whether blocked and row-major bytes are the same: one pixel, whole blocks."""
        _, c, h, w = self.editor.type_of(tensor).shape
        return h == 1 and w == 1 and isinstance(c, int) and c % self.target.float_lanes == 0


def _is_image(type_: TensorType) -> bool:
    extents = type_.shape[1:]
    known = all(isinstance(d, int) and d > 0 for d in extents)
    return type_.rank == 4 and type_.dtype is DType.FLOAT32 and known and type_.layout == ROW_MAJOR


def _window(node: OperatorNode, kernel: Sequence[int]) -> dict[str, Any]:
    a = node.attributes
    return {
        "kernel": tuple(int(k) for k in kernel),
        "strides": tuple(a.get("strides") or (1, 1)),
        "dilations": tuple(a.get("dilations") or (1, 1)),
        "pads": tuple(a.get("pads") or (0, 0, 0, 0)),
    }


# -- convolution ----------------------------------------------------------------------------------------------


def _move_conv(mover: _Mover, node: OperatorNode) -> bool:
    editor = mover.editor
    x, w = node.inputs[0], node.inputs[1]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if x is None or w is None or not _is_image(editor.type_of(x)) or editor.find_constant(w) is None:
        return False
    if bias is not None and editor.find_constant(bias) is None:
        return False
    weights = editor.type_of(w)
    if not all(isinstance(d, int) and d > 0 for d in weights.shape) or not _is_image(
        editor.type_of(node.outputs[0])
    ):
        return False
    o, c = (int(str(d)) for d in weights.shape[:2])
    group = int(node.attributes.get("group", 1))
    attributes = _window(node, [int(str(d)) for d in weights.shape[2:]])
    if any(not isinstance(p, int) or p < 0 for p in attributes["pads"]):
        return False
    if bias is not None:
        attributes["epilogue"] = (("add", (0, 1), ()),)
    if group == 1:
        _add_conv(mover, node, x, w, bias, attributes)
        return True
    if c == 1 and group == o and editor.type_of(x).shape[1] == o:
        packed = _pack_depthwise(mover, w)
        mover.replace(node, "depthwise_blocked", [mover.image(x), packed, *_present(bias)], attributes)
        return True
    _add_grouped(mover, node, x, w, bias, {**attributes, "group": group})
    return True


def _present(tensor: TensorID | None) -> list[TensorID]:
    return [] if tensor is None else [tensor]


def _add_conv(
    mover: _Mover,
    node: OperatorNode,
    x: TensorID,
    w: TensorID,
    bias: TensorID | None,
    attributes: dict[str, Any],
) -> None:
    planar = x not in mover.twins and editor_channels(mover, x) <= MOST_PLANAR_CHANNELS
    if planar:
        source = _padded(mover, node, x, attributes["pads"])
        attributes = {**attributes, "pads": (0, 0, 0, 0)}
    else:
        source = mover.image(x)
    packed = _pack_conv(mover, node, source, w, attributes, planar)
    mover.replace(node, "conv_blocked", [source, packed, *_present(bias)], attributes)


def _add_grouped(
    mover: _Mover,
    node: OperatorNode,
    x: TensorID,
    w: TensorID,
    bias: TensorID | None,
    attributes: dict[str, Any],
) -> None:
    """A grouped convolution; a channel shuffle before it becomes the order in which channels are read."""
    editor, lanes, group = mover.editor, mover.target.float_lanes, attributes["group"]
    o, c, kh, kw = (int(str(d)) for d in editor.type_of(w).shape)
    order = list(range(c * group))
    shuffle = editor.find_producer(x)
    if shuffle is not None and shuffle.operation == "channel_shuffle" and shuffle.inputs[0] is not None:
        x = shuffle.inputs[0]
        groups = shuffle.attributes["groups"]
        order = [(i % groups) * (c * group // groups) + i // groups for i in order]
        attributes["order"] = tuple(order)
    entries = group_entries(o, group, lanes)
    table = np.array([[e.block, e.mask, *order[e.group * c : (e.group + 1) * c]] for e in entries], np.int64)
    parameters = (o, c, kh, kw, group, lanes)

    def compute(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return pack_grouped(np.asarray(arrays[0], np.float32), group, lanes)

    packed = _add_packed(editor, w, "conv_grouped", parameters, grouped_elements(parameters), compute)
    channels = editor.add_constant(table, f"{node.name}/channels")
    mover.replace(
        node, "conv_grouped_blocked", [mover.image(x), packed, channels, *_present(bias)], attributes
    )


def editor_channels(mover: _Mover, x: TensorID) -> int:
    """Channels of an image."""
    return int(str(mover.editor.type_of(x).shape[1]))


def _padded(mover: _Mover, node: OperatorNode, x: TensorID, pads: Sequence[int]) -> TensorID:
    """A copy with a border of zeros; the tensor itself where there is no border."""
    if not any(pads):
        return x
    top, left, bottom, right = pads
    (padded,) = mover.editor.add_node(
        "pad", [x], {"before": (0, 0, top, left), "after": (0, 0, bottom, right), "mode": "constant"},
        name=f"{node.name}/pad",
    )  # fmt: skip
    return padded


def _pack_conv(
    mover: _Mover, node: OperatorNode, source: TensorID, w: TensorID, attributes: dict[str, Any], planar: bool
) -> TensorID:
    editor, lanes = mover.editor, mover.target.float_lanes
    weights = editor.type_of(w)
    output = editor.type_of(node.outputs[0]).with_layout(mover.layout)
    signature = StepSignature(
        operation="conv_blocked",
        inputs=(editor.type_of(source), weights),
        outputs=(output,),
        attributes=attributes,
    )
    vectors = conv_tiling(signature, mover.target).vectors
    scheme, pack = ("conv_planar", pack_conv_planar) if planar else ("conv", pack_conv)
    parameters = (*(int(str(d)) for d in weights.shape), vectors, lanes)

    def compute(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return pack(np.asarray(arrays[0], np.float32), vectors, lanes)

    return _add_packed(editor, w, scheme, parameters, conv_elements(parameters), compute)


def _pack_depthwise(mover: _Mover, w: TensorID) -> TensorID:
    editor, lanes = mover.editor, mover.target.float_lanes
    c, _, kh, kw = (int(str(d)) for d in editor.type_of(w).shape)
    parameters = (c, kh, kw, lanes)

    def compute(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return pack_depthwise(np.asarray(arrays[0], np.float32), lanes)

    return _add_packed(editor, w, "depthwise", parameters, depthwise_elements(parameters), compute)


def _add_packed(
    editor: GraphEditor, w: TensorID, scheme: str, parameters: tuple[int, ...], elements: int,
    compute: Callable[[Sequence[np.ndarray]], np.ndarray],
) -> TensorID:  # fmt: skip
    constant = editor.find_constant(w)
    if constant is None:
        raise TypeError(f"{w} is not constant")
    packed = DerivedConstant(
        recipe=f"pack {scheme} {parameters}", sources=(constant,), compute=compute, size_bytes=4 * elements
    )
    layout = Packed(scheme=scheme, parameters=parameters)
    return editor.add_stored_constant(
        packed, TensorType(DType.FLOAT32, editor.type_of(w).shape, layout), f"{w}/packed"
    )


# -- pools ----------------------------------------------------------------------------------------------------


def _move_pool(mover: _Mover, node: OperatorNode) -> bool:
    editor, a = mover.editor, node.attributes
    x = node.inputs[0]
    if (
        x is None
        or x not in mover.twins
        or not _is_image(editor.type_of(x))
        or a.get("indices")
        or len(node.outputs) > 1
    ):
        return False
    attributes = _window(node, a["kernel"])
    attributes["mode"] = "max" if node.operation == "max_pool" else "average"
    attributes["include_pad"] = bool(a.get("count_padding", False))
    if any(not isinstance(p, int) or p < 0 for p in attributes["pads"]):
        return False
    grown = _grow_pads(editor.type_of(x), editor.type_of(node.outputs[0]), attributes)
    if grown != attributes["pads"] and attributes["include_pad"]:
        return False
    mover.replace(node, "pool_blocked", [mover.image(x)], {**attributes, "pads": grown})
    return True


def _grow_pads(x: TensorType, y: TensorType, a: Mapping[str, Any]) -> tuple[int, ...]:
    """Pads with which rounding down gives the stated output (rounding up leaves windows that hang over)."""
    pads = list(a["pads"])
    for axis in (0, 1):
        extent, out = int(str(x.shape[2 + axis])), int(str(y.shape[2 + axis]))
        span = a["dilations"][axis] * (a["kernel"][axis] - 1) + 1
        needed = (out - 1) * a["strides"][axis] + span - extent - pads[axis]
        pads[2 + axis] = max(pads[2 + axis], needed)
    return tuple(pads)


def _move_global_mean(mover: _Mover, node: OperatorNode) -> bool:
    x = node.inputs[0]
    if x is None or x not in mover.twins:
        return False
    mover.replace(node, "global_mean_blocked", [mover.image(x)], {})
    return True


def _move_reduce_mean(mover: _Mover, node: OperatorNode) -> bool:
    """A mean over both pixel axes is a global mean; without kept axes it is followed by a view."""
    editor, x = mover.editor, node.inputs[0]
    axes = node.attributes.get("axes")
    if x is None or x not in mover.twins or axes is None or sorted(a % 4 for a in axes) != [2, 3]:
        return False
    if node.attributes.get("keepdims", True):
        mover.replace(node, "global_mean_blocked", [mover.image(x)], {})
        return True
    shape = editor.type_of(node.outputs[0]).shape
    result = node.outputs[0]
    editor.remove(node)
    (blocked,) = editor.add_node(
        "global_mean_blocked",
        [mover.image(x)],
        {},
        name=node.name,
        layouts=[mover.layout],
        sources=node.sources,
    )
    dense = isinstance(shape[1], int) and shape[1] % mover.target.float_lanes == 0
    (flat,) = editor.add_node(
        "unblock_view" if dense else "unblock_image", [blocked], name=f"{node.name}/unblock"
    )
    editor.add_node("reshape", [flat], {"shape": shape}, name=f"{node.name}/view", outputs=[result])
    return True


# -- maps and concatenation -----------------------------------------------------------------------------------


def _move_map(mover: _Mover, node: OperatorNode) -> bool:
    """Move a map where an operand is blocked already and every other one can be read beside it."""
    editor = mover.editor
    output = editor.type_of(node.outputs[0])
    if not _is_image(output) or not any(t in mover.twins for t in node.inputs):
        return False
    if not any(
        t in mover.twins and editor.type_of(t).shape == output.shape for t in node.inputs if t is not None
    ):
        return False
    operands = [None if t is None else _map_operand(mover, t, output) for t in node.inputs]
    if any(o is None for o in operands):
        return False
    mover.replace(node, "map_blocked", operands, {"program": map_program(node)})
    return True


def _map_operand(mover: _Mover, tensor: TensorID, output: TensorType) -> TensorID | None:
    editor = mover.editor
    type_ = editor.type_of(tensor)
    if type_.dtype is not DType.FLOAT32:
        return None
    if editor.find_constant(tensor) is not None:
        if type_.elements == 1:
            return tensor
        return _channel_vector(editor, tensor, output)
    spread = type_.rank == 4 and type_.shape == (*output.shape[:2], 1, 1)
    if (type_.shape == output.shape or spread) and _is_image(type_):
        return mover.image(tensor)
    return None


def _channel_vector(editor: GraphEditor, tensor: TensorID, output: TensorType) -> TensorID | None:
    """A constant [C, 1, 1] or [1, C, 1, 1] as a vector [C]."""
    type_, constant = editor.type_of(tensor), editor.find_constant(tensor)
    channels = output.shape[1]
    padded = (1,) * (4 - type_.rank) + tuple(type_.shape)
    if constant is None or padded != (1, channels, 1, 1) or not isinstance(channels, int):
        return None

    def compute(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.asarray(arrays[0]).reshape(-1)

    vector = DerivedConstant(recipe="flatten", sources=(constant,), compute=compute, size_bytes=4 * channels)
    return editor.add_stored_constant(vector, TensorType(DType.FLOAT32, (channels,)), f"{tensor}/channels")


def _move_concat(mover: _Mover, node: OperatorNode) -> bool:
    """Concatenation of channels, where every part but the last fills whole blocks."""
    editor, lanes = mover.editor, mover.target.float_lanes
    output = editor.type_of(node.outputs[0])
    if (
        not _is_image(output)
        or node.attributes["axis"] % 4 != 1
        or not any(t in mover.twins for t in node.inputs)
    ):
        return False
    types = [editor.type_of(t) for t in node.inputs if t is not None]
    if not all(_is_image(t) for t in types) or any(int(str(t.shape[1])) % lanes for t in types[:-1]):
        return False
    parts = [mover.image(t) for t in node.inputs if t is not None]
    mover.replace(node, "concat_blocked", parts, {"axis": 1})
    return True


_MOVES: Mapping[str, Callable[[_Mover, OperatorNode], bool]] = {
    "conv": _move_conv,
    "max_pool": _move_pool,
    "average_pool": _move_pool,
    "global_average_pool": _move_global_mean,
    "reduce_mean": _move_reduce_mean,
    "concat": _move_concat,
    "fused_map": _move_map,
}
