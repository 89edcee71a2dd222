"""Which inputs of a case may be bound at build: those that determine an output shape, never a case's data."""

from __future__ import annotations

import onnx

__all__ = ["SHAPE_INPUTS", "bindable_inputs"]

_REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip

SHAPE_INPUTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(_REDUCTIONS, (1,)),
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "DFT": (1, 2),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "Loop": (0, 1),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1, 2),
    "TopK": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
"""Positions of inputs that determine output shapes, by operator. Position 1 of Resize is the region that
scales apply to; position 2 of DFT is the axis whose extent changes; position 2 of Tile is the axis of its
opset 1 form; positions 0 and 1 of Loop, trip count and first
condition, decide the length of scan outputs."""


def bindable_inputs(model: onnx.ModelProto) -> frozenset[str]:
    """Names of graph inputs that only feed shape-determining positions of the model's own nodes."""
    names = {value.name for value in model.graph.input}
    bound: set[str] = set()
    data: set[str] = set()
    for node in model.graph.node:
        positions = SHAPE_INPUTS.get(node.op_type, ()) if node.domain in ("", "ai.onnx") else ()
        for position, name in enumerate(node.input):
            if name in names:
                (bound if position in positions else data).add(name)
    return frozenset(bound - data)
