"""Native code of recurrent layers: a unit runs whole sequences of a few batch rows in one direction.

Gates are vectors along the hidden units. Each sum takes bias, inputs in order and hidden state in order, all
by fused multiply-add, so a result does not depend on how many rows share a unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from plumbline.contracts.dims import Dim, ceildiv, mul
from plumbline.contracts.program import StepSignature
from plumbline.kernels.contract import KernelCall, Work
from plumbline.kernels.emit.ir import Index
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.matrix.tile import accumulate
from plumbline.kernels.recurrent.geometry import Layer, layer_activations, signature_layer
from plumbline.kernels.recurrent.places import Places, each_unit, time_of, write_zero
from plumbline.kernels.recurrent.run import Run, Weights, padded, steps_ahead, workspace_vectors

__all__ = ["RecurrentKernel"]

ROWS = 4
"""Batch rows that share the loads of weights."""
Cell = Callable[[Run, Weights, Weights], None]
"""Compute the next state (buffer 1) of one time step from inputs and state (buffer 0)."""


def _rows(signature: StepSignature, layer: Layer) -> int:
    """Rows of a unit: one where lengths differ or the batch is not known."""
    if len(signature.inputs) > 4 and signature.inputs[4] is not None:
        return 1
    return min(ROWS, layer.batch) if isinstance(layer.batch, int) and layer.batch > 0 else 1


def _blocks(signature: StepSignature, layer: Layer) -> Dim:
    return ceildiv(layer.batch, _rows(signature, layer))


class RecurrentKernel:
    """Native code of `rnn`, `gru` and `lstm` around a cell."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is up to four batch rows in one direction."""
        layer, dtype = signature_layer(signature), accumulate(signature.outputs[0].dtype)
        rows = _rows(signature, layer)
        steps = layer.steps if isinstance(layer.steps, int) else 32
        flops = 2.0 * rows * steps * layer.gates * layer.hidden * (layer.inputs + layer.hidden)
        bytes_ = (
            workspace_vectors(signature.operation, layer, rows)
            * padded(layer.hidden, dtype)
            * dtype.size_bytes
        )
        return Work(
            units=mul(layer.directions, _blocks(signature, layer)),
            unit_cost=flops / 8,
            workspace_bytes=bytes_,
        )

    def emit(self, call: KernelCall) -> None:
        """Each direction has its own code; its units are those rows that fall into `[begin, end)`."""
        b, layer = call.builder, signature_layer(call.signature)
        activations = layer_activations(call.signature.operation, call.attributes, layer.directions)
        blocks = call.dim(_blocks(call.signature, layer))
        places = Places(call, layer)
        for direction in range(layer.directions):
            run = Run(
                b=b, call=call, layer=layer, direction=direction, rows=_rows(call.signature, layer),
                dtype=accumulate(layer.dtype), activations=activations[direction],
            )  # fmt: skip
            low = b.maximum(b.index(call.begin) - blocks * direction, 0)
            high = b.minimum(b.index(call.end) - blocks * direction, b.index(blocks))
            with b.range(low, high) as block:
                self._emit_rows(run, places, places.rows(block, run.rows))

    def _emit_rows(self, run: Run, places: Places, rows: Sequence[Index]) -> None:
        b, direction = run.b, run.direction
        backward = direction == 1 or run.call.attributes.get("direction", "forward") == "reverse"
        places.load_states(run, rows)
        length = places.length(rows[0])
        ahead = steps_ahead(run.rows) if run.wide else 1
        with b.range(0, length, ahead) as first:
            count: Index = 1
            if run.wide:
                places.project(run, rows, first, length, backward)
                count = b.minimum(b.index(length) - first, ahead)
            with b.range(0, count) as step:
                time = time_of(first + step, length, backward)
                inputs, recurrent = places.weights(run, rows, time)
                if run.wide:
                    inputs = replace(inputs, ahead=step)
                self._cell(run, inputs, recurrent)
                places.advance(run, rows, time)
        with b.range(length, places.steps) as time:
            for row in rows:
                each_unit(run, partial(write_zero, run, places.y, places.y_start(row, time, direction)))
        places.store_states(run, rows)
