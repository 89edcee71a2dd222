"""`dft` and `stft`."""

from __future__ import annotations

from plumbline.contracts.dims import Dim, add, floordiv, maximum, product, sub
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import AttributeRefused, DTypeRefused, Inference, KernelCall, Work
from plumbline.kernels.emit.ir import Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef, unflatten
from plumbline.kernels.emit.tensor import product as extent_product
from plumbline.kernels.signal.transform import Transform, static_length

__all__ = ["DftKernel", "StftKernel", "dft_length", "infer_dft", "infer_stft"]


def _signal(inference: Inference) -> TensorType:
    x = inference.type(0)
    if not x.dtype.is_float:
        raise DTypeRefused(operation=inference.operation, dtype=x.dtype.value, needed="a float type")
    inference.require(
        x.rank >= 2 and x.shape[-1] in (1, 2), "the last axis holds one or two parts of a number"
    )
    return x


def dft_length(inference: Inference) -> int:
    """Length of the transform: attribute `length`, else that of the axis (of the whole signal for a one-sided
    inverse)."""
    x, attributes = inference.type(0), inference.attributes
    length: Dim | None = attributes.get("length")
    if length is None:
        extent = x.shape[attributes["axis"]]
        half = attributes.get("inverse", False) and attributes.get("onesided", False)
        length = 2 * sub(extent, 1) if half else extent
    return static_length(inference.operation, length)


def infer_dft(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `dft(x [..., N, ..., 1 or 2])`: attributes axis (from the front), length, inverse,
    onesided.

    A forward one-sided transform of a real signal keeps `length // 2 + 1` bins; an inverse one-sided
    transform takes that many and yields a real signal `[..., 1]`.
    """
    x, attributes = _signal(inference), inference.attributes
    axis = attributes["axis"]
    inference.require(isinstance(axis, int) and 0 <= axis < x.rank - 1, f"axis {axis} of {x}")
    length = dft_length(inference)
    onesided, inverse = bool(attributes.get("onesided", False)), bool(attributes.get("inverse", False))
    if onesided:
        wanted = 2 if inverse else 1
        inference.require(x.shape[-1] == wanted, f"a one-sided transform of {x.shape[-1]} parts")
    shape = list(x.shape)
    shape[axis] = length // 2 + 1 if onesided and not inverse else length
    shape[-1] = 1 if onesided and inverse else 2
    return (TensorType(x.dtype, tuple(shape)),)


def infer_stft(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `stft(signal [B, L, 1 or 2], window [frame]?)`: attributes step, frame, onesided."""
    x, attributes = _signal(inference), inference.attributes
    inference.require(x.rank == 3, "a signal has three axes")
    frame, step = static_length("stft", attributes["frame"]), attributes["step"]
    if not isinstance(step, int) or step < 1:
        raise AttributeRefused(
            operation="stft", attribute="step", value=str(step), reason="a positive integer"
        )
    if len(inference.inputs) > 1 and inference.inputs[1] is not None:
        window = inference.inputs[1]
        inference.require(
            window.shape == (frame,) and window.dtype is x.dtype, f"window {window} for {frame}"
        )
    onesided = bool(attributes.get("onesided", True))
    inference.require(not onesided or x.shape[2] == 1, "a one-sided transform takes a real signal")
    frames = maximum(add(floordiv(sub(x.shape[1], frame), step), 1), 0)
    return (TensorType(x.dtype, (x.shape[0], frames, frame // 2 + 1 if onesided else frame, 2)),)


def _dft_plan(signature: StepSignature) -> tuple[Transform, Dim]:
    inference = Inference(operation="dft", inputs=signature.inputs, attributes=signature.attributes)
    x, axis = inference.type(0), signature.attributes["axis"]
    transform = Transform(
        length=dft_length(inference), inverse=bool(signature.attributes.get("inverse", False)),
    )  # fmt: skip
    return transform, product((*x.shape[:axis], *x.shape[axis + 1 : -1]))


class DftKernel:
    """Native code of `dft` for every float type."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is one line along the axis."""
        transform, units = _dft_plan(signature)
        return Work(units=units, unit_cost=transform.cost, workspace_bytes=transform.workspace_bytes)

    def emit(self, call: KernelCall) -> None:
        """Gather a line, transform it, scatter the result."""
        b = call.builder
        transform, _ = _dft_plan(call.signature)
        x, y, axis = call.input(0), call.output(), call.attributes["axis"]
        inner_extent = extent_product(x.shape[axis + 1 : -1])
        mirrored = bool(call.attributes.get("onesided", False)) and transform.inverse
        outputs = y.type.shape[axis]
        with b.range(call.begin, call.end) as unit:
            outer, inner = unflatten(b, unit, (1, inner_extent))
            start = _line_start(x, axis, outer, inner, inner_extent)
            to = _line_start(y, axis, outer, inner, inner_extent)

            def read(i: Index, start: Index = start) -> tuple[Value, Value]:
                return _read(x, axis, start, i, transform, mirrored)

            def write(k: Index, value: tuple[Value, Value], to: Index = to) -> None:
                position = to + k * y.strides[axis]
                y.store_flat(b.cast(value[0], y.dtype), position)
                if not mirrored:
                    y.store_flat(b.cast(value[1], y.dtype), position + 1)

            count = outputs if isinstance(outputs, int) else transform.length
            transform.emit(b, call.target, call.workspace, read, write, count)


def _line_start(tensor: TensorRef, axis: int, outer: Index, inner: Index, inner_extent: Index) -> Index:
    """Offset of a line along `axis`; `inner` counts numbers, not parts."""
    parts = tensor.shape[-1]
    return outer * (tensor.shape[axis] * (inner_extent * parts)) + inner * parts


def _read(
    x: TensorRef, axis: int, start: Index, i: Index, transform: Transform, mirrored: bool
) -> tuple[Value, Value]:
    """Element i of a line: zero past its end; in the upper half of a mirrored one the conjugate of n - i."""
    b = x.builder
    place = b.index(i)
    upper = place > transform.length // 2
    if mirrored:
        place = b.select(upper, transform.length - place, place)
    inside = b.compare("lt", place, b.index(x.shape[axis]))
    position = start + place * x.strides[axis]
    real = _read_where(x, inside, position, transform.dtype)
    if x.type.shape[-1] == 1:
        return real, b.const(transform.dtype, 0.0)
    imaginary = _read_where(x, inside, position + 1, transform.dtype)
    return real, b.select(upper, b.neg(imaginary), imaginary) if mirrored else imaginary


def _read_where(x: TensorRef, inside: Value, position: Index, dtype: DType) -> Value:
    """An element, or zero where nothing may be read."""
    b = x.builder
    found = b.variable(dtype, 0.0)
    with b.when(inside):
        found.set(b.cast(x.load_flat(position), dtype))
    return found.get()


class StftKernel:
    """Native code of `stft` for every float type."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is one frame."""
        transform = _frame_transform(signature)
        units = product(signature.outputs[0].shape[:2])
        return Work(units=units, unit_cost=transform.cost, workspace_bytes=transform.workspace_bytes)

    def emit(self, call: KernelCall) -> None:
        """Weigh a frame and transform it."""
        b, transform = call.builder, _frame_transform(call.signature)
        x, window, y = call.input(0), call.optional_input(1), call.output()
        parts, step = x.type.shape[2], call.attributes["step"]
        bins = y.type.shape[2]
        with b.range(call.begin, call.end) as unit:
            row, frame = unflatten(b, unit, y.shape[:2])
            start = row * x.strides[0] + frame * (x.strides[1] * step)
            to = unit * y.strides[1]

            def read(i: Index, start: Index = start) -> tuple[Value, Value]:
                weight = None if window is None else b.cast(window.load_flat(i), transform.dtype)
                found = []
                for part in range(2):
                    value = b.const(transform.dtype, 0.0)
                    if part == 0 or parts == 2:
                        value = b.cast(x.load_flat(start + i * x.strides[1] + part), transform.dtype)
                        value = value if weight is None else value * weight
                    found.append(value)
                return found[0], found[1]

            def write(k: Index, value: tuple[Value, Value], to: Index = to) -> None:
                for part in range(2):
                    y.store_flat(b.cast(value[part], y.dtype), to + k * 2 + part)

            count = bins if isinstance(bins, int) else transform.length
            transform.emit(b, call.target, call.workspace, read, write, count)


def _frame_transform(signature: StepSignature) -> Transform:
    frame = static_length("stft", signature.attributes["frame"])
    return Transform(length=frame, inverse=False)
