"""Fold scaling and shifting of channels into the weights of the convolution before it.

Batch normalisation becomes a scale and a shift per channel. Behind a convolution with constant weights that
nobody else reads, they change the weights; elsewhere they become `mul` and `add`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from plumbline.compiler.graph.constant import Constant
from plumbline.compiler.graph.derived import DerivedConstant
from plumbline.compiler.graph.graph import ExecutionGraph, OperatorNode, TensorID
from plumbline.compiler.passes.editor import GraphEditor
from plumbline.compiler.passes.report import PassReport
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.emit.target import TargetDescription

__all__ = ["fold_channel_scales"]

Compute = Callable[[Sequence[np.ndarray]], np.ndarray]


def fold_channel_scales(
    graph: ExecutionGraph, target: TargetDescription, report: PassReport
) -> ExecutionGraph:
    """See the module docstring."""
    editor = GraphEditor(graph)
    for node in graph.nodes:
        if node.operation == "batch_normalization":
            _split_normalization(editor, node)
    for node in editor.nodes():
        if node.operation == "conv":
            current: OperatorNode | None = node
            while current is not None:
                current = _fold_next(editor, current, report)
    return editor.finish()


def _split_normalization(editor: GraphEditor, node: OperatorNode) -> None:
    """y = x * (scale / sqrt(variance + epsilon)) + (bias - mean * that), computed in float64."""
    x, *parameters = node.inputs
    constants = [editor.find_constant(t) for t in parameters]
    if x is None or len(node.outputs) != 1 or any(c is None for c in constants) or len(constants) != 4:
        return
    type_ = editor.type_of(x)
    if type_.dtype is not DType.FLOAT32 or type_.rank < 2 or node.attributes.get("training"):
        return
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    channels = type_.shape[1]
    if not isinstance(channels, int):
        return
    shape = (channels, *(1 for _ in range(type_.rank - 2)))
    sources = tuple(c for c in constants if c is not None)

    def scale(arrays: Sequence[np.ndarray]) -> np.ndarray:
        gamma, _, _, variance = (np.asarray(a, np.float64) for a in arrays)
        return (gamma / np.sqrt(variance + epsilon)).astype(np.float32).reshape(shape)

    def shift(arrays: Sequence[np.ndarray]) -> np.ndarray:
        gamma, beta, mean, variance = (np.asarray(a, np.float64) for a in arrays)
        return (beta - mean * gamma / np.sqrt(variance + epsilon)).astype(np.float32).reshape(shape)

    k = _derived(editor, f"batch scale {epsilon.hex()} {shape}", sources, scale, shape, f"{node.name}/scale")
    c = _derived(editor, f"batch shift {epsilon.hex()} {shape}", sources, shift, shape, f"{node.name}/shift")
    result = node.outputs[0]
    editor.remove(node)
    (scaled,) = editor.add_node("mul", [x, k], name=f"{node.name}/scaled", sources=node.sources)
    editor.add_node("add", [scaled, c], name=node.name, outputs=[result], sources=node.sources)


def _derived(
    editor: GraphEditor,
    recipe: str,
    sources: tuple[Constant, ...],
    compute: Compute,
    shape: tuple[int, ...],
    name: str,
) -> TensorID:
    elements = int(np.prod(shape))
    constant = DerivedConstant(recipe=recipe, sources=sources, compute=compute, size_bytes=4 * elements)
    return editor.add_stored_constant(constant, TensorType(DType.FLOAT32, shape), name)


def _fold_next(editor: GraphEditor, conv: OperatorNode, report: PassReport) -> OperatorNode | None:
    """Fold the only reader of a convolution where it scales or shifts channels; the new convolution."""
    reader = editor.find_only_reader(conv.outputs[0])
    w = editor.find_constant(conv.inputs[1])
    bias = conv.inputs[2] if len(conv.inputs) > 2 else None
    if reader is None or w is None or reader.operation not in ("mul", "add") or len(reader.inputs) != 2:
        return None
    if bias is not None and editor.find_constant(bias) is None:
        return None
    other = reader.inputs[1] if reader.inputs[0] == conv.outputs[0] else reader.inputs[0]
    factor = editor.find_constant(other)
    type_ = editor.type_of(conv.outputs[0])
    if other is None or factor is None or editor.type_of(reader.outputs[0]) != type_:
        return None
    if type_.dtype is not DType.FLOAT32 or not _is_per_channel(editor.type_of(other), type_):
        return None
    weights, new_bias = conv.inputs[1], bias
    if reader.operation == "mul":
        weights = _scaled_weights(editor, conv, w, factor)
        new_bias = None if bias is None else _vector(editor, conv, "mul", (bias, other))
    else:
        new_bias = _vector(editor, conv, "add", (bias, other))
    result = reader.outputs[0]
    editor.remove(conv)
    editor.remove(reader)
    inputs = [conv.inputs[0], weights, *([] if new_bias is None else [new_bias])]
    editor.add_node(
        "conv",
        inputs,
        conv.attributes,
        name=conv.name,
        outputs=[result],
        sources=(*conv.sources, *reader.sources),
    )
    report.note("fold_channel_scales", "folded", reader.name, f"into the weights of {conv.name}")
    return editor.find_producer(result)


def _is_per_channel(type_: TensorType, output: TensorType) -> bool:
    padded = (1,) * (output.rank - type_.rank) + tuple(type_.shape)
    wanted = (1, output.shape[1], *(1 for _ in range(output.rank - 2)))
    return type_.rank <= output.rank and padded == wanted and isinstance(output.shape[1], int)


def _scaled_weights(editor: GraphEditor, conv: OperatorNode, w: Constant, factor: Constant) -> TensorID:
    shape = tuple(int(str(d)) for d in editor.type_of(_id(conv.inputs[1])).shape)

    def compute(arrays: Sequence[np.ndarray]) -> np.ndarray:
        scale = np.asarray(arrays[1], np.float64).reshape(-1, *(1 for _ in shape[1:]))
        return (np.asarray(arrays[0], np.float64) * scale).astype(np.float32)

    return _derived(editor, f"scale outputs {shape}", (w, factor), compute, shape, f"{conv.inputs[1]}/scaled")


def _vector(
    editor: GraphEditor, conv: OperatorNode, operation: str, parts: tuple[TensorID | None, TensorID]
) -> TensorID:
    """The sum or product of two per-channel constants as a vector [O]; an absent first part is left out."""
    given = [c for c in (editor.find_constant(p) for p in parts) if c is not None]
    channels = int(str(editor.type_of(conv.outputs[0]).shape[1]))
    combine = np.multiply if operation == "mul" else np.add

    def compute(arrays: Sequence[np.ndarray]) -> np.ndarray:
        flat = [np.asarray(a, np.float64).reshape(-1) for a in arrays]
        result = flat[0] if len(flat) == 1 else combine(flat[0], flat[1])
        return np.asarray(result).astype(np.float32)

    recipe = f"{operation} vectors {len(given)}"
    return _derived(editor, recipe, tuple(given), compute, (channels,), f"{conv.name}/bias")


def _id(tensor: TensorID | None) -> TensorID:
    if tensor is None:
        raise TypeError("the operand is absent")
    return tensor
