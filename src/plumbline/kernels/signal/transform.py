"""One discrete Fourier transform of a static length, in the workspace of a unit.

Powers of two use the radix-2 algorithm of J. W. Cooley and J. W. Tukey (1965) with decimation in time; other
lengths sum the definition term by term with a table of roots of unity, which costs length squared. Roots and
sums are float64 for every element type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import AttributeRefused
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Pointer, Value
from plumbline.kernels.emit.target import TargetDescription

__all__ = ["Transform", "static_length"]

LONGEST = 1 << 16
"""Longest transform: its tables are constants of the code."""

Complex = tuple[Value, Value]


def static_length(operation: str, length: object) -> int:
    """The length of a transform as an integer.

    Raises:
        AttributeRefused: it is symbolic, not positive or too long.
    """
    if not isinstance(length, int) or not 1 <= length <= LONGEST:
        raise AttributeRefused(
            operation=operation,
            attribute="length",
            value=str(length),
            reason=f"a static length up to {LONGEST}",
        )
    return length


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """A transform of `length` complex numbers; `inverse` also divides by the length.

    It computes in `dtype`; results of narrower types are rounded once, when they are written.
    """

    length: int
    inverse: bool
    dtype: DType = DType.FLOAT64

    @property
    def workspace_bytes(self) -> int:
        """Real parts, then imaginary parts."""
        return 2 * self._padded * self.dtype.size_bytes

    @property
    def cost(self) -> float:
        """Rough floating-point operations."""
        if self._is_fast:
            return 5.0 * self.length * max(1, self.length.bit_length() - 1)
        return 8.0 * self.length * self.length

    @property
    def _is_fast(self) -> bool:
        return self.length & (self.length - 1) == 0

    @property
    def _padded(self) -> int:
        return -(-self.length // 16) * 16

    def emit(
        self, b: FunctionBuilder, target: TargetDescription, workspace: Pointer,
        read: Callable[[Index], Complex], write: Callable[[Index, Complex], None], outputs: int,
    ) -> None:  # fmt: skip
        """Emit the transform.

        Args:
            b: function that receives the code.
            target: instruction set.
            workspace: `workspace_bytes` of scratch.
            read: element i of the input.
            write: takes element k of the result, for k in `[0, outputs)`.
            outputs: wanted elements, at most the length.
        """
        real, imaginary = workspace, b.offset(workspace, self.dtype, self._padded)
        order = self._reversed_bits(b) if self._is_fast else None
        with b.range(0, self.length) as i:
            source = i if order is None else b.cast(b.load(order, DType.INT32, i), DType.INT64)
            x, y = read(source)
            b.store(x, real, i)
            b.store(y, imaginary, i)
        if self._is_fast:
            self._butterflies(b, target.lanes(self.dtype), real, imaginary)
        scale = 1.0 / self.length if self.inverse else 1.0
        with b.range(0, outputs) as k:
            if self._is_fast:
                x, y = b.load(real, self.dtype, k), b.load(imaginary, self.dtype, k)
            else:
                x, y = self._sum(b, real, imaginary, k)
            write(k, (x * scale, y * scale) if self.inverse else (x, y))

    def _angle(self, numerator: int, denominator: int) -> float:
        sign = 1.0 if self.inverse else -1.0
        return sign * 2.0 * math.pi * numerator / denominator

    def _name(self, kind: str) -> str:
        return f"dft_{kind}_{self.length}_{'inverse' if self.inverse else 'forward'}_{self.dtype.value}"

    def _reversed_bits(self, b: FunctionBuilder) -> Pointer:
        bits = self.length.bit_length() - 1
        numbers = [int(format(i, f"0{bits}b")[::-1], 2) if bits else 0 for i in range(self.length)]
        return b.module.table(f"dft_order_{self.length}", DType.INT32, numbers)

    # -- powers of two ---------------------------------------------------------------------------------------

    def _butterflies(self, b: FunctionBuilder, lanes: int, real: Pointer, imaginary: Pointer) -> None:
        """Stages of growing span; the roots of the stage with half span h start at h - 1 of the tables."""
        if self.length == 1:
            return
        halves = [1 << s for s in range(self.length.bit_length() - 1)]
        angles = [self._angle(j, 2 * half) for half in halves for j in range(half)]
        cosines = b.module.table(self._name("cosines"), self.dtype, [math.cos(a) for a in angles])
        sines = b.module.table(self._name("sines"), self.dtype, [math.sin(a) for a in angles])
        for half in halves:
            width = min(lanes, half)
            with b.range(0, self.length, 2 * half) as start, b.range(0, half, width) as j:
                low = start + j
                high = low + half
                root = (half - 1) + j
                turned = _times(
                    self._pair(b, real, imaginary, high, width), self._pair(b, cosines, sines, root, width)
                )
                kept = self._pair(b, real, imaginary, low, width)
                for position, sign in ((low, 1), (high, -1)):
                    for pointer, x, y in zip((real, imaginary), kept, turned, strict=True):
                        b.store(x + y if sign > 0 else x - y, pointer, position)

    def _pair(self, b: FunctionBuilder, first: Pointer, second: Pointer, at: Index, lanes: int) -> Complex:
        return b.load(first, self.dtype, at, lanes=lanes), b.load(second, self.dtype, at, lanes=lanes)

    # -- other lengths ---------------------------------------------------------------------------------------

    def _sum(self, b: FunctionBuilder, real: Pointer, imaginary: Pointer, k: Index) -> Complex:
        """sum_j x[j] * root ** (j * k)."""
        angles = [self._angle(j, self.length) for j in range(self.length)]
        cosines = b.module.table(self._name("cosines"), self.dtype, [math.cos(a) for a in angles])
        sines = b.module.table(self._name("sines"), self.dtype, [math.sin(a) for a in angles])

        def term(j: Index, carried: list[Value]) -> Sequence[Value]:
            place, x, y = carried
            re, im = self._pair(b, real, imaginary, j, 1)
            c, s = self._pair(b, cosines, sines, place, 1)
            following = place + k
            wrapped = b.select(following >= self.length, following - self.length, following)
            return [wrapped, b.fma(b.neg(im), s, b.fma(re, c, x)), b.fma(im, c, b.fma(re, s, y))]

        zero = b.const(self.dtype, 0.0)
        _, x, y = b.reduce(0, self.length, [b.const(DType.INT64, 0), zero, zero], term)
        return x, y


def _times(x: Complex, y: Complex) -> Complex:
    """Product of complex numbers."""
    return x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]
