"""How convolutions move to blocked channels: dense, planar (few input channels), depthwise and grouped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plumbline.compiler.graph.graph import OperatorNode, TensorID
from plumbline.compiler.passes.image_mover import ImageMover, add_packed, is_image, window_of
from plumbline.contracts.program import StepSignature
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

__all__ = ["move_convolution"]

MOST_PLANAR_CHANNELS = 4
"""Convolutions of so few channels read the row-major image directly."""


def move_convolution(mover: ImageMover, node: OperatorNode) -> bool:
    """Move a convolution with constant weights; whether it moved."""
    editor = mover.editor
    x, w = node.inputs[0], node.inputs[1]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if x is None or w is None or not is_image(editor.type_of(x)) or editor.find_constant(w) is None:
        return False
    if bias is not None and editor.find_constant(bias) is None:
        return False
    weights = editor.type_of(w)
    if not all(isinstance(d, int) and d > 0 for d in weights.shape) or not is_image(
        editor.type_of(node.outputs[0])
    ):
        return False
    o, c = (int(str(d)) for d in weights.shape[:2])
    group = int(node.attributes.get("group", 1))
    attributes = window_of(node, [int(str(d)) for d in weights.shape[2:]])
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
    mover: ImageMover,
    node: OperatorNode,
    x: TensorID,
    w: TensorID,
    bias: TensorID | None,
    attributes: dict[str, Any],
) -> None:
    planar = x not in mover.twins and _channels(mover, x) <= MOST_PLANAR_CHANNELS
    if planar:
        source = _padded(mover, node, x, attributes["pads"])
        attributes = {**attributes, "pads": (0, 0, 0, 0)}
    else:
        source = mover.image(x)
    packed = _pack_conv(mover, node, source, w, attributes, planar)
    mover.replace(node, "conv_blocked", [source, packed, *_present(bias)], attributes)


def _add_grouped(
    mover: ImageMover,
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

    packed = add_packed(editor, w, "conv_grouped", parameters, grouped_elements(parameters), compute)
    channels = editor.add_constant(table, f"{node.name}/channels")
    mover.replace(
        node, "conv_grouped_blocked", [mover.image(x), packed, channels, *_present(bias)], attributes
    )


def _channels(mover: ImageMover, x: TensorID) -> int:
    """Channels of an image."""
    return int(str(mover.editor.type_of(x).shape[1]))


def _padded(mover: ImageMover, node: OperatorNode, x: TensorID, pads: Sequence[int]) -> TensorID:
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
    mover: ImageMover,
    node: OperatorNode,
    source: TensorID,
    w: TensorID,
    attributes: dict[str, Any],
    planar: bool,
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

    return add_packed(editor, w, scheme, parameters, conv_elements(parameters), compute)


def _pack_depthwise(mover: ImageMover, w: TensorID) -> TensorID:
    editor, lanes = mover.editor, mover.target.float_lanes
    c, _, kh, kw = (int(str(d)) for d in editor.type_of(w).shape)
    parameters = (c, kh, kw, lanes)

    def compute(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return pack_depthwise(np.asarray(arrays[0], np.float32), lanes)

    return add_packed(editor, w, "depthwise", parameters, depthwise_elements(parameters), compute)
