"""Addressing of blocked images, and the zero halo around them."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.contracts.dims import Dim, ceildiv
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import Blocked, DType, TensorType
from plumbline.kernels.contract import DTypeRefused, KernelCall, ShapeRefused
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Pointer, Value

__all__ = ["BlockedImage", "blocked_layout", "blocks_of", "static_extents"]

FLOAT = DType.FLOAT32


def blocked_layout(type_: TensorType | None, operation: str) -> Blocked:
    """The blocked layout of an operand.

    Raises:
        DTypeRefused: it has another layout or element type.
    """
    if type_ is None or not isinstance(type_.layout, Blocked) or type_.dtype is not FLOAT:
        raise DTypeRefused(operation=operation, dtype=str(type_), needed="a float32 image in blocked layout")
    return type_.layout


def static_extents(type_: TensorType, operation: str) -> tuple[int, int, int]:
    """Channels, height and width of an image type.

    Raises:
        ShapeRefused: one of them is symbolic.
    """
    _, c, h, w = type_.shape
    if isinstance(c, int) and isinstance(h, int) and isinstance(w, int):
        return c, h, w
    raise ShapeRefused(operation=operation, reason="channels, height and width must be known at build")


def blocks_of(type_: TensorType) -> Dim:
    """Channel blocks of an image type."""
    layout = type_.layout
    return ceildiv(type_.shape[1], layout.block if isinstance(layout, Blocked) else 1)


@dataclass(frozen=True, slots=True)
class BlockedImage:
    """A blocked operand: element strides of image, block and row, and the place of pixel (0, 0)."""

    pointer: Pointer
    lanes: int
    channels: int
    height: int
    width: int
    halo: tuple[int, int, int, int]

    @classmethod
    def of(cls, pointer: Pointer, type_: TensorType, operation: str) -> BlockedImage:
        """Describe an operand of static extents (images may be symbolic)."""
        layout = blocked_layout(type_, operation)
        c, h, w = static_extents(type_, operation)
        return cls(pointer, layout.block, c, h, w, layout.halo)

    @property
    def blocks(self) -> int:
        """Channel blocks."""
        return -(-self.channels // self.lanes)

    @property
    def row_stride(self) -> int:
        """Elements from one row to the next."""
        return (self.width + self.halo[1] + self.halo[3]) * self.lanes

    @property
    def plane_stride(self) -> int:
        """Elements from one channel block to the next."""
        return (self.height + self.halo[0] + self.halo[2]) * self.row_stride

    @property
    def image_stride(self) -> int:
        """Elements from one image to the next."""
        return self.blocks * self.plane_stride

    @property
    def origin(self) -> int:
        """Element offset of pixel (0, 0) of a plane."""
        return self.halo[0] * self.row_stride + self.halo[1] * self.lanes

    def plane(self, b: FunctionBuilder, image: Index, block: Index) -> Value:
        """Element offset of pixel (0, 0) of a channel block."""
        return b.index(image * self.image_stride + block * self.plane_stride + self.origin)

    def pixel(self, b: FunctionBuilder, image: Index, block: Index, y: Index, x: Index) -> Value:
        """Element offset of pixel (y, x) of a channel block."""
        return self.plane(b, image, block) + (y * self.row_stride + x * self.lanes)

    def zero_halo(
        self, b: FunctionBuilder, plane: Index, first_row: Index, rows: int, *, guard: Value | None = None
    ) -> None:
        """Zero the left and right halo of some rows, the top above row 0 and the bottom below the last row.

        Args:
            b: receives the code.
            plane: element offset of pixel (0, 0).
            first_row: first of the rows that the caller wrote.
            rows: how many.
            guard: a condition under which alone anything is written.
        """
        if not any(self.halo):
            return
        if guard is not None:
            with b.when(guard):
                self.zero_halo(b, plane, first_row, rows)
            return
        top, left, bottom, right = self.halo
        for row in range(rows):
            start = plane + (first_row + row) * self.row_stride
            _zero(b, self.pointer, start + (-left * self.lanes), left, self.lanes)
            _zero(b, self.pointer, start + self.width * self.lanes, right, self.lanes)
        columns = self.row_stride // self.lanes
        if top:
            with b.when(b.compare("eq", b.index(first_row), 0)):
                _zero(b, self.pointer, plane + -self.origin, top * columns, self.lanes)
        if bottom:
            with b.when(b.compare("eq", b.index(first_row), self.height - rows)):
                below = plane + (self.height * self.row_stride - left * self.lanes)
                _zero(b, self.pointer, below, bottom * columns, self.lanes)


def _zero(b: FunctionBuilder, pointer: Pointer, start: Index, vectors: int, lanes: int) -> None:
    """Store zeros; long runs as a loop."""
    if vectors <= 0:
        return
    zero = b.const(FLOAT, 0.0, lanes)
    if vectors <= 4:
        for number in range(vectors):
            b.store(zero, pointer, start + number * lanes)
        return
    with b.range(0, vectors) as v:
        b.store(zero, pointer, b.index(start) + v * lanes)


def image_input(call: KernelCall, position: int) -> BlockedImage:
    """A required blocked input."""
    pointer, type_ = call.input_pointers[position], call.signature.inputs[position]
    if pointer is None or type_ is None:
        raise ShapeRefused(operation=call.signature.operation, reason=f"input {position} is missing")
    return BlockedImage.of(pointer, type_, call.signature.operation)


def image_output(call: KernelCall, position: int = 0) -> BlockedImage:
    """A blocked output."""
    return BlockedImage.of(
        call.output_pointers[position], call.signature.outputs[position], call.signature.operation
    )


def images(signature: StepSignature) -> Dim:
    """The number of images, possibly symbolic."""
    return signature.outputs[0].shape[0]
