"""Native code of local response normalisation across channels: a unit is one channel plane."""

from __future__ import annotations

from plumbline.contracts.dims import Dim, mul, product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import KernelCall, ShapeRefused, Work
from plumbline.kernels.emit import math
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.pointwise.expression import compute_dtype

__all__ = ["LocalResponseKernel", "inverse_power"]


class LocalResponseKernel:
    """`local_response_normalization`: x / (bias + alpha / size * sum of squares of near channels) ** beta."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a channel plane of one image."""
        batch, channels, plane = _split(signature)
        width = plane if isinstance(plane, int) else 1024
        return Work(units=mul(batch, channels), unit_cost=(40.0 + signature.attributes["size"]) * width / 4)

    def emit(self, call: KernelCall) -> None:
        """The window of channels is cut at the borders."""
        b = call.builder
        source, output = call.input(0), call.output()
        _, channels, plane = (call.dim(d) for d in _split(call.signature))
        dtype = compute_dtype(source.dtype)
        size = int(call.attributes["size"])
        alpha = float(call.attributes.get("alpha", 1e-4)) / size
        beta, bias = float(call.attributes.get("beta", 0.75)), float(call.attributes.get("bias", 1.0))
        with b.range(call.begin, call.end) as unit:
            channel = b.index(unit) % channels
            image = (b.index(unit) - channel) * plane
            low = b.maximum(channel - (size - 1) // 2, 0)
            high = b.minimum(channel + (size - 1 - (size - 1) // 2), b.index(channels) - 1) + 1

            def write(i: Index, width: int, image: Value = image, channel: Value = channel,
                      low: Value = low, high: Value = high) -> None:  # fmt: skip
                def load(at: Index) -> Value:
                    return b.cast(source.load_flat(image + at * plane + i, lanes=width), dtype)

                def square(at: Index, held: list[Value]) -> list[Value]:
                    value = load(at)
                    return [held[0] + value * value]

                (total,) = b.reduce(low, high, [b.const(dtype, 0.0, width)], square)
                result = load(channel) * inverse_power(b, total * alpha + bias, beta)
                output.store_flat(b.cast(result, output.dtype), image + channel * plane + i)

            b.vectorize(plane, call.target.lanes(dtype), write)


def inverse_power(b: FunctionBuilder, x: Value, beta: float) -> Value:
    """x ** -beta; square roots where beta is a multiple of a quarter under 1."""
    if beta == 0.75:
        root = b.sqrt(x)
        return 1.0 / (root * b.sqrt(root))
    if beta == 0.5:
        return 1.0 / b.sqrt(x)
    if beta == 1.0:
        return 1.0 / x
    if x.dtype is DType.FLOAT64:
        return math.power(b, x, b.const(x.dtype, -beta, x.lanes))
    return math.exp(b, math.log(b, x) * -beta)


def _split(signature: StepSignature) -> tuple[Dim, Dim, Dim]:
    """(images, channels, elements of a plane)."""
    source = signature.inputs[0]
    if source is None:
        raise ShapeRefused(operation=signature.operation, reason="input 0 is missing")
    return source.shape[0], source.shape[1], product(source.shape[2:])
