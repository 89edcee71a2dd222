"""Decide the zero halo of every blocked image from what its readers need.

Convolutions and averages over padded windows read zeros around the image, and so does a maximum where the
image cannot be negative. Parts of one concatenation share the halo of the whole, so that they can be written
in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from plumbline.compiler.graph.graph import ExecutionGraph, OperatorNode, TensorID
from plumbline.compiler.passes.editor import GraphEditor
from plumbline.compiler.passes.report import PassReport
from plumbline.contracts.tensors import Blocked
from plumbline.kernels.emit.target import TargetDescription

__all__ = ["assign_halos", "is_non_negative"]

WINDOWED = frozenset({"conv_blocked", "conv_grouped_blocked", "depthwise_blocked", "pool_blocked"})
KEEPS_SIGN = frozenset(
    {"pool_blocked", "concat_blocked", "unblock_image", "block_image", "local_response_blocked"}
)
"""Operators whose results are not negative where their operands are not."""
Halo = tuple[int, int, int, int]
NONE: Halo = (0, 0, 0, 0)


def assign_halos(graph: ExecutionGraph, target: TargetDescription, report: PassReport) -> ExecutionGraph:
    """See the module docstring."""
    editor = GraphEditor(graph)
    for node in graph.nodes:
        if node.operation == "pool_blocked":
            _mark_neutral(editor, node)
    halos: dict[TensorID, Halo] = {}
    for node in editor.nodes():
        for position, tensor in enumerate(node.inputs):
            if tensor is not None and isinstance(editor.type_of(tensor).layout, Blocked):
                halos[tensor] = _merge(halos.get(tensor, NONE), _needed(node, position))
    _share(editor, halos)
    for tensor, halo in halos.items():
        layout = editor.type_of(tensor).layout
        if isinstance(layout, Blocked) and any(halo):
            _copy_views(editor, tensor)
            top, left, bottom, right = halo
            wide = replace(layout, top=top, left=left, bottom=bottom, right=right)
            editor.set_type(tensor, editor.type_of(tensor).with_layout(wide))
    return editor.finish()


def _merge(a: Halo, b: Halo) -> Halo:
    top, left, bottom, right = (max(x, y) for x, y in zip(a, b, strict=True))
    return top, left, bottom, right


def _needed(node: OperatorNode, position: int) -> Halo:
    """The halo that an operator reads around operand 0. Overhang on the far sides is read too."""
    if position != 0 or node.operation not in WINDOWED:
        return NONE
    if node.operation == "pool_blocked" and not node.attributes.get("halo_is_neutral"):
        return NONE
    top, left, bottom, right = node.attributes["pads"]
    return top, left, bottom, right


def _share(editor: GraphEditor, halos: dict[TensorID, Halo]) -> None:
    """Give parts and wholes of concatenations one halo; repeat until chains of them agree."""
    concats = [n for n in editor.nodes() if n.operation == "concat_blocked"]
    changed = True
    while changed:
        changed = False
        for node in concats:
            members = [t for t in (*node.inputs, *node.outputs) if t is not None]
            widest = NONE
            for tensor in members:
                widest = _merge(widest, halos.get(tensor, NONE))
            for tensor in members:
                if halos.get(tensor, NONE) != widest:
                    halos[tensor] = widest
                    changed = True


def _copy_views(editor: GraphEditor, tensor: TensorID) -> None:
    """A halo ends that row-major bytes are those of the image: views of it become copies."""
    for reader in editor.readers(tensor):
        if reader.operation == "unblock_view":
            editor.remove(reader)
            editor.add_node(
                "unblock_image",
                reader.inputs,
                name=reader.name,
                outputs=reader.outputs,
                sources=reader.sources,
            )


def _mark_neutral(editor: GraphEditor, node: OperatorNode) -> None:
    """A window may read the halo where zeros cannot change its result."""
    pads, source = node.attributes["pads"], node.inputs[0]
    if source is None:
        return
    if not any(pads):
        neutral = True
    elif node.attributes["mode"] == "max":
        neutral = is_non_negative(editor, source)
    else:
        neutral = bool(node.attributes.get("include_pad"))
    if neutral:
        attributes = {**node.attributes, "halo_is_neutral": True}
        layouts = [editor.type_of(t).layout for t in node.outputs]
        editor.remove(node)
        editor.add_node(
            node.operation, node.inputs, attributes, name=node.name, outputs=node.outputs, layouts=layouts,
            sources=node.sources,
        )  # fmt: skip


def is_non_negative(editor: GraphEditor, tensor: TensorID, depth: int = 32) -> bool:
    """Whether every value of a tensor is certainly zero or more (or NaN)."""
    node = editor.find_producer(tensor)
    if node is None or depth == 0:
        return False
    program = node.attributes.get("program") or node.attributes.get("epilogue")
    if program:
        name, _, params = program[-1]
        return name in ("relu", "sigmoid", "exp", "abs") or (name == "clip" and _low(dict(params)) >= 0)
    if node.operation in KEEPS_SIGN:
        sources = [t for t in node.inputs if t is not None]
        return all(is_non_negative(editor, t, depth - 1) for t in sources)
    return False


def _low(params: Mapping[str, object]) -> float:
    low = params.get("low")
    return float(low) if isinstance(low, int | float) else -1.0
