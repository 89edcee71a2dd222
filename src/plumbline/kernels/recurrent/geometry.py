"""Shape rules of recurrent layers, and the static facts of one layer.

Operands (ours): `x [T, B, I]`, `w [D, I, G * H]`, `r [D, H, G * H]`, `bias [D, 2 * G * H]`, `lengths [B]`
int32, `h0 [D, B, H]`, and for LSTM `c0 [D, B, H]` and `peepholes [D, 3 * H]`; G is 1 (rnn), 3 (gru: update,
reset, hidden) or 4 (lstm: input, output, forget, cell). Weights are transposed against ONNX, so that gates
are contiguous along the hidden units. Results: `y [T, D, B, H]`, `h [D, B, H]` and for LSTM `c [D, B, H]`.
With attribute `batch_first` the batch stands before time and direction: `x [B, T, I]`, `h0, c0, h, c [B, D,
H]`, `y [B, T, D, H]`.

Attributes: direction (forward, reverse, bidirectional), activations (one name per activation of a direction,
all directions in turn), alphas and betas (one number or None each), clip (0: none), batch_first,
linear_before_reset (gru), input_forget (lstm).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plumbline.contracts.dims import Dim
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import AttributeRefused, DTypeRefused, Inference
from plumbline.kernels.recurrent.activations import Activation, find_activation

__all__ = ["CELLS", "Cell", "Layer", "infer_recurrent", "layer_activations", "layer_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A kind of cell: number of gates and default activations."""

    gates: int
    activations: tuple[str, ...]


CELLS: Mapping[str, Cell] = {
    "rnn": Cell(gates=1, activations=("tanh",)),
    "gru": Cell(gates=3, activations=("sigmoid", "tanh")),
    "lstm": Cell(gates=4, activations=("sigmoid", "tanh", "tanh")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Extents of a recurrent layer. Only time and batch may be symbolic."""

    steps: Dim
    batch: Dim
    inputs: int
    hidden: int
    directions: int
    gates: int
    dtype: DType
    batch_first: bool


def layer_of(inference: Inference) -> Layer:
    """Read a layer and check its operands.

    Raises:
        ShapeRefused, DTypeRefused, AttributeRefused: an operand or attribute does not fit.
    """
    operation = inference.operation
    cell, x, w, r = CELLS[operation], inference.type(0), inference.type(1), inference.type(2)
    if not x.dtype.is_float:
        raise DTypeRefused(operation=operation, dtype=x.dtype.value, needed="a float type")
    inference.require(x.rank == 3 and w.rank == 3 and r.rank == 3, "x, w and r have three axes")
    batch_first = bool(inference.attributes.get("batch_first", False))
    steps, batch = (x.shape[1], x.shape[0]) if batch_first else (x.shape[0], x.shape[1])
    directions, inputs, hidden = r.shape[0], x.shape[2], r.shape[1]
    if not (isinstance(directions, int) and isinstance(inputs, int) and isinstance(hidden, int)):
        raise AttributeRefused(
            operation=operation,
            attribute="shape",
            value=f"{x}, {r}",
            reason="inputs and hidden size are static",
        )
    layer = Layer(
        steps=steps, batch=batch, inputs=inputs, hidden=hidden, directions=directions, gates=cell.gates,
        dtype=x.dtype, batch_first=batch_first,
    )  # fmt: skip
    _check_operands(inference, layer)
    layer_activations(operation, inference.attributes, directions)
    return layer


def _check_operands(inference: Inference, layer: Layer) -> None:
    d, h, width = layer.directions, layer.hidden, layer.gates * layer.hidden
    expected = 2 if inference.attributes.get("direction", "forward") == "bidirectional" else 1
    inference.require(d == expected, f"weights for {d} directions, attribute says {expected}")
    state = (layer.batch, d, h) if layer.batch_first else (d, layer.batch, h)
    shapes = {
        1: (d, layer.inputs, width),
        2: (d, h, width),
        3: (d, 2 * width),
        5: state,
        6: state,
        7: (d, 3 * h),
    }
    for position, shape in shapes.items():
        found = inference.inputs[position] if position < len(inference.inputs) else None
        if found is not None:
            fits = found.shape == shape and found.dtype is layer.dtype
            inference.require(fits, f"input {position} is {found}, not {layer.dtype}{list(shape)}")
    lengths = inference.inputs[4] if len(inference.inputs) > 4 else None
    if lengths is not None:
        fits = lengths.shape == (layer.batch,) and lengths.dtype is DType.INT32
        inference.require(fits, f"lengths are {lengths}, not int32[{layer.batch}]")


def layer_activations(
    operation: str, attributes: Mapping[str, Any], directions: int
) -> tuple[tuple[Activation, ...], ...]:
    """The activations of each direction.

    Raises:
        AttributeRefused: their number or a name does not fit.
    """
    defaults = CELLS[operation].activations
    count = len(defaults)
    names = tuple(attributes.get("activations") or defaults * directions)
    if len(names) != count * directions:
        raise AttributeRefused(
            operation=operation, attribute="activations", value=str(names),
            reason=f"needs {count} names for each of {directions} directions",
        )  # fmt: skip
    alphas = tuple(attributes.get("alphas") or (None,) * len(names))
    betas = tuple(attributes.get("betas") or (None,) * len(names))
    clip = float(attributes.get("clip", 0.0) or 0.0)
    found = tuple(
        find_activation(operation, name, alpha, beta, clip)
        for name, alpha, beta in zip(names, alphas, betas, strict=True)
    )
    return tuple(found[d * count : (d + 1) * count] for d in range(directions))


def infer_recurrent(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `rnn`, `gru` and `lstm`."""
    layer = layer_of(inference)
    d, h = layer.directions, layer.hidden
    if layer.batch_first:
        sequence: tuple[Dim, ...] = (layer.batch, layer.steps, d, h)
        state: tuple[Dim, ...] = (layer.batch, d, h)
    else:
        sequence, state = (layer.steps, d, layer.batch, h), (d, layer.batch, h)
    states = 2 if inference.operation == "lstm" else 1
    return (TensorType(layer.dtype, sequence), *(TensorType(layer.dtype, state) for _ in range(states)))


def signature_layer(signature: StepSignature) -> Layer:
    """The layer of a step."""
    return layer_of(
        Inference(operation=signature.operation, inputs=signature.inputs, attributes=signature.attributes)
    )
