"""Native code of `channel_shuffle`, row-major: channel i of group j becomes channel i * groups + j."""

from __future__ import annotations

from plumbline.contracts.dims import product
from plumbline.contracts.program import StepSignature
from plumbline.kernels.contract import KernelCall, Work
from plumbline.kernels.emit.ir import Index
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import product as product_of

__all__ = ["ShuffleKernel"]


class ShuffleKernel:
    """Copies of whole planes."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is one plane."""
        shape = signature.outputs[0].shape
        return Work(units=product(shape[:2]), unit_cost=512.0)

    def emit(self, call: KernelCall) -> None:
        """Plane by plane."""
        b, x, y = call.builder, call.input(0), call.output()
        groups = call.attributes["groups"]
        channels, plane = b.index(x.shape[1]), product_of(x.shape[2:])
        with b.range(call.begin, call.end) as unit:
            u = b.index(unit)
            image, channel = u / channels, u % channels
            source = channel % groups * (channels / groups) + channel / groups
            start, target = (image * channels + source) * plane, u * plane

            def body(i: Index, lanes: int) -> None:
                y.store_flat(x.load_flat(start + i, lanes=lanes), target + i)

            b.vectorize(plane, call.target.lanes(x.dtype), body)
