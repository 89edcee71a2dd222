"""Converters of signal operators."""

from __future__ import annotations

from plumbline.compiler.importers.onnx.movement import axis_of
from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.compiler.importers.onnx.registry import Converted, converts
from plumbline.contracts.dims import Dim

__all__: list[str] = []


@converts("DFT", since=17)
def dft_17(node: NodeView) -> Converted:
    """The axis is an attribute."""
    return _dft(node, node.int("axis", 1))


@converts("DFT", since=20)
def dft_20(node: NodeView) -> Converted:
    """The axis is an operand."""
    return _dft(node, -2 if node.optional(2) is None else _one(node, 2))


def _dft(node: NodeView, axis: int) -> Converted:
    attributes = {
        "axis": axis_of(node, axis, node.rank(0)),
        "length": None if node.optional(1) is None else _one(node, 1),
        "inverse": node.int("inverse", 0) != 0,
        "onesided": node.int("onesided", 0) != 0,
    }
    return node.add1("dft", [node.input(0)], attributes)


def _one(node: NodeView, position: int) -> int:
    """The only number of an operand that is known at build."""
    values = node.integers(position)
    if len(values) != 1:
        node.refuse(f"input {position} holds {len(values)} numbers, not one")
    return values[0]


@converts("STFT", since=17)
def stft(node: NodeView) -> Converted:
    """Spectra of weighted frames."""
    window = node.optional(2)
    frame: Dim = node.shape(0)[1]
    if node.optional(3) is not None:
        frame = _one(node, 3)
    elif window is not None:
        frame = node.shape(2)[0]
    attributes = {"frame": frame, "step": _one(node, 1), "onesided": node.int("onesided", 1) != 0}
    return node.add1("stft", [node.input(0), window], attributes)


@converts("MelWeightMatrix", since=17)
def mel_weight_matrix(node: NodeView) -> Converted:
    """Filters between hertz limits that may be known only at run time."""
    attributes = {
        "bins": _one(node, 0),
        "length": _one(node, 1),
        "dtype": node.dtype(node.int("output_datatype", 1)).value,
    }
    return node.add1("mel_weight_matrix", [node.input(i) for i in (2, 3, 4)], attributes)
