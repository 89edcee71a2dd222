"""`global_average_pool`, `global_max_pool` and `global_lp_pool`: one number per image plane."""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.contracts.dims import product
from plumbline.contracts.program import StepSignature
from plumbline.kernels.contract import KernelCall, ShapeRefused, Work
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import product as extent_product
from plumbline.kernels.matrix.tile import accumulate
from plumbline.kernels.pooling.window_pools import lowest, power_sum, root

__all__ = ["GlobalPoolKernel"]


class GlobalPoolKernel:
    """Native code of the three global pools. A plane is folded with one accumulator per lane, then the lanes
    in a fixed tree, then the elements past the last whole vector."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a plane."""
        images = signature.inputs[0]
        if images is None:
            raise ShapeRefused(operation=signature.operation, reason="input 0 is missing")
        plane = product(images.shape[2:])
        return Work(
            units=product(images.shape[:2]), unit_cost=float(plane if isinstance(plane, int) else 1024) / 4
        )

    def emit(self, call: KernelCall) -> None:
        """Fold every plane."""
        b, operation = call.builder, call.signature.operation
        images, output = call.input(0), call.output()
        dtype = accumulate(images.dtype)
        lanes = call.target.lanes(dtype)
        plane = extent_product(images.shape[2:])
        whole = plane - plane % lanes
        p = int(call.attributes.get("p", 2))
        with b.range(call.begin, call.end) as unit:
            start = unit * plane

            def fold(i: Index, carried: list[Value], width: int, start: Index = start) -> Sequence[Value]:
                value = b.cast(images.load_flat(start + i, lanes=width), dtype)
                return [_combine(b, operation, value, carried[0], p)]

            first = lowest(b, dtype, lanes) if operation == "global_max_pool" else b.const(dtype, 0, lanes)
            wide = b.reduce(0, whole, [first], lambda i, c: fold(i, c, lanes), step=lanes)[0]
            folded = b.reduce_lanes("max" if operation == "global_max_pool" else "add", wide)
            total = b.reduce(whole, plane, [folded], lambda i, c: fold(i, c, 1))[0]
            if operation == "global_average_pool":
                total = total / b.cast(b.index(plane), dtype)
            elif operation == "global_lp_pool":
                total = root(b, total, p)
            output.store_flat(b.cast(total, output.dtype), unit)


def _combine(b: FunctionBuilder, operation: str, value: Value, total: Value, p: int) -> Value:
    match operation:
        case "global_max_pool":
            return b.maximum(total, value)
        case "global_lp_pool":
            return power_sum(b, value, p, total)
        case _:
            return total + value
