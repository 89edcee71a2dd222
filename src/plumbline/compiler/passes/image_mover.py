"""`ImageMover`: blocked twins of row-major images, for the passes that move operators to blocked channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from plumbline.compiler.graph.derived import DerivedConstant
from plumbline.compiler.graph.graph import OperatorNode, TensorID
from plumbline.compiler.passes.editor import GraphEditor
from plumbline.compiler.passes.report import PassReport
from plumbline.contracts.tensors import ROW_MAJOR, Blocked, DType, Packed, TensorType
from plumbline.kernels.emit.target import TargetDescription

__all__ = ["ImageMover", "add_packed", "is_image", "window_of"]


@dataclass(slots=True)
class ImageMover:
    """The state of one run: blocked twins of row-major tensors."""

    editor: GraphEditor
    target: TargetDescription
    report: PassReport
    twins: dict[TensorID, TensorID] = field(default_factory=dict)

    @property
    def layout(self) -> Blocked:
        """The layout of moved images, without halo."""
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


def is_image(type_: TensorType) -> bool:
    """Whether a tensor is a row-major float32 [N, C, H, W] with known C, H and W."""
    extents = type_.shape[1:]
    known = all(isinstance(d, int) and d > 0 for d in extents)
    return type_.rank == 4 and type_.dtype is DType.FLOAT32 and known and type_.layout == ROW_MAJOR


def window_of(node: OperatorNode, kernel: Sequence[int]) -> dict[str, Any]:
    """The window of a convolution or pool as the attributes of a blocked operator."""
    a = node.attributes
    return {
        "kernel": tuple(int(k) for k in kernel),
        "strides": tuple(a.get("strides") or (1, 1)),
        "dilations": tuple(a.get("dilations") or (1, 1)),
        "pads": tuple(a.get("pads") or (0, 0, 0, 0)),
    }


def add_packed(
    editor: GraphEditor, w: TensorID, scheme: str, parameters: tuple[int, ...], elements: int,
    compute: Callable[[Sequence[np.ndarray]], np.ndarray],
) -> TensorID:  # fmt: skip
    """A constant that packs the weights `w` when it is written."""
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
