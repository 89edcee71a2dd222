"""Recognise channel shuffles and move them behind depthwise convolutions.

`reshape [N, g, C/g, H, W] -> transpose (0, 2, 1, 3, 4) -> reshape [N, C, H, W]` is one `channel_shuffle`. A
depthwise convolution treats channels alike, so shuffling its result is shuffling its input with its weights
in the old order; the grouped convolution behind it then reads channels by number and the shuffle costs
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plumbline.compiler.graph.constant import Constant
from plumbline.compiler.graph.derived import DerivedConstant
from plumbline.compiler.graph.graph import ExecutionGraph, OperatorNode, TensorID
from plumbline.compiler.passes.editor import GraphEditor
from plumbline.compiler.passes.report import PassReport
from plumbline.kernels.emit.target import TargetDescription

__all__ = ["sink_channel_shuffles"]


def sink_channel_shuffles(
    graph: ExecutionGraph, target: TargetDescription, report: PassReport
) -> ExecutionGraph:
    """See the module docstring."""
    editor = GraphEditor(graph)
    for node in graph.nodes:
        if node.operation == "reshape" and editor.is_present(node):
            _recognise(editor, node, report)
    for node in editor.nodes():
        if node.operation == "channel_shuffle":
            _sink(editor, node, report)
    return editor.finish()


def _recognise(editor: GraphEditor, last: OperatorNode, report: PassReport) -> None:
    transpose = editor.find_producer(last.inputs[0])
    if transpose is None or transpose.operation != "transpose":
        return
    first = editor.find_producer(transpose.inputs[0])
    if first is None or first.operation != "reshape" or first.inputs[0] is None:
        return
    if tuple(transpose.attributes["perm"]) != (0, 2, 1, 3, 4):
        return
    x, split = editor.type_of(first.inputs[0]).shape, editor.type_of(first.outputs[0]).shape
    groups = split[1] if len(split) == 5 else None
    if len(x) != 4 or not isinstance(groups, int) or editor.type_of(last.outputs[0]).shape != x:
        return
    if (split[0], split[3], split[4]) != (x[0], x[2], x[3]):
        return
    editor.remove(last)
    sources = (*first.sources, *transpose.sources, *last.sources)
    editor.add_node(
        "channel_shuffle",
        [first.inputs[0]],
        {"groups": groups},
        name=last.name,
        outputs=last.outputs,
        sources=sources,
    )
    report.note("sink_channel_shuffles", "fused", last.name, f"a shuffle of {groups} groups")


def _sink(editor: GraphEditor, shuffle: OperatorNode, report: PassReport) -> None:
    reader = editor.find_only_reader(shuffle.outputs[0])
    x = shuffle.inputs[0]
    if reader is None or reader.operation != "conv" or reader.inputs[0] != shuffle.outputs[0] or x is None:
        return
    weights = [editor.find_constant(t) for t in reader.inputs[1:] if t is not None]
    w = reader.inputs[1]
    if any(c is None for c in weights) or w is None or len(reader.inputs) - 1 != len(weights):
        return
    shape = editor.type_of(w).shape
    channels = int(str(editor.type_of(x).shape[1]))
    if int(reader.attributes.get("group", 1)) != channels or shape[0] != channels or shape[1] != 1:
        return
    groups = shuffle.attributes["groups"]
    moved = [_unshuffled(editor, t, groups) for t in reader.inputs[1:] if t is not None]
    result = reader.outputs[0]
    editor.remove(shuffle)
    editor.remove(reader)
    (plain,) = editor.add_node(
        "conv", [x, *moved], reader.attributes, name=reader.name, sources=reader.sources
    )
    editor.add_node(
        "channel_shuffle",
        [plain],
        {"groups": groups},
        name=shuffle.name,
        outputs=[result],
        sources=shuffle.sources,
    )
    report.note("sink_channel_shuffles", "fused", shuffle.name, f"moved behind {reader.name}")


def _unshuffled(editor: GraphEditor, tensor: TensorID, groups: int) -> TensorID:
    """Per-channel weights in the order before the shuffle."""
    constant: Constant | None = editor.find_constant(tensor)
    if constant is None:
        raise TypeError(f"{tensor} is not constant")
    type_ = editor.type_of(tensor)

    def compute(arrays: Sequence[np.ndarray]) -> np.ndarray:
        array = np.asarray(arrays[0])
        split = array.reshape(array.shape[0] // groups, groups, *array.shape[1:])
        return np.ascontiguousarray(split.swapaxes(0, 1)).reshape(array.shape)

    size = type_.dtype.size_bytes * int(np.prod([int(str(d)) for d in type_.shape]))
    moved = DerivedConstant(
        recipe=f"unshuffle {groups}", sources=(constant,), compute=compute, size_bytes=size
    )
    return editor.add_stored_constant(moved, type_, f"{tensor}/unshuffled")
