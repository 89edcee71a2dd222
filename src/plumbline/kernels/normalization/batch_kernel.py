"""Native code of batch normalisation with given statistics.

A unit is one channel plane of one image; without spatial axes it is one row, vectorised across channels.
"""

from __future__ import annotations

from plumbline.contracts.dims import Dim, mul, product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import KernelCall, ShapeRefused, Work
from plumbline.kernels.emit.ir import Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef

__all__ = ["BatchNormalizationKernel"]


class BatchNormalizationKernel:
    """`batch_normalization`: (x - mean) / sqrt(variance + epsilon) * scale + bias, by channel."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a channel plane, or a row of channels."""
        batch, channels, plane = _split(signature)
        if plane == 1:
            return Work(units=batch, unit_cost=16.0 * (channels if isinstance(channels, int) else 256) / 4)
        width = plane if isinstance(plane, int) else 1024
        return Work(units=mul(batch, channels), unit_cost=16.0 + width / 2)

    def emit(self, call: KernelCall) -> None:
        """One multiply-add an element."""
        b = call.builder
        source, output = call.input(0), call.output()
        parameters = [call.input(i) for i in range(1, 5)]
        _, channels, plane = (call.dim(d) for d in _split(call.signature))
        wide = any(t is not None and t.dtype is DType.FLOAT64 for t in call.signature.inputs)
        dtype = DType.FLOAT64 if wide else DType.FLOAT32
        lanes = call.target.lanes(dtype)
        epsilon = float(call.attributes.get("epsilon", 1e-5))

        def coefficients(channel: Index, width: int) -> tuple[Value, Value, Value]:
            scale, bias, mean, variance = (_load(p, channel, width, dtype) for p in parameters)
            return mean, scale / b.sqrt(variance + epsilon), bias

        def write(position: Index, width: int, held: tuple[Value, Value, Value]) -> None:
            mean, factor, bias = (b.splat(v, width) for v in held)
            value = _load(source, position, width, dtype) - mean
            output.store_flat(b.cast(b.fma(value, factor, bias), output.dtype), position)

        with b.range(call.begin, call.end) as unit:
            if _split(call.signature)[2] == 1:
                b.vectorize(channels, lanes, lambda c, w: write(unit * channels + c, w, coefficients(c, w)))
            else:
                held = coefficients(b.index(unit) % channels, 1)
                b.vectorize(plane, lanes, lambda i, w: write(unit * plane + i, w, held))


def _load(tensor: TensorRef, position: Index, width: int, dtype: DType) -> Value:
    return tensor.builder.cast(tensor.load_flat(position, lanes=width), dtype)


def _split(signature: StepSignature) -> tuple[Dim, Dim, Dim]:
    """(images, channels, elements of a plane)."""
    source = signature.inputs[0]
    if source is None:
        raise ShapeRefused(operation=signature.operation, reason="input 0 is missing")
    return source.shape[0], source.shape[1], product(source.shape[2:])
