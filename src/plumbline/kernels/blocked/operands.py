"""Operands of a pointwise program beside a blocked image: further images, vectors of channels, numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.contracts.tensors import ROW_MAJOR, DType
from plumbline.kernels.blocked.image import BlockedImage
from plumbline.kernels.contract import KernelCall, ShapeRefused
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Pointer, Value
from plumbline.kernels.pointwise.expression import Instruction, emit_program

__all__ = ["BlockedOperand", "BlockedOperands"]

FLOAT = DType.FLOAT32


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedOperand:
    """One operand: an image (of one pixel: spread over all pixels), else a vector [C] or a number."""

    pointer: Pointer
    image: BlockedImage | None
    is_number: bool


@dataclass(frozen=True, slots=True)
class BlockedOperands:
    """The operands from one position on, and how to read them for a pixel."""

    builder: FunctionBuilder
    lanes: int
    operands: tuple[BlockedOperand, ...]

    @classmethod
    def of(cls, call: KernelCall, first: int) -> BlockedOperands:
        """Describe the inputs of a call from `first` on."""
        operation = call.signature.operation
        found = []
        for pointer, type_ in zip(call.input_pointers[first:], call.signature.inputs[first:], strict=True):
            if pointer is None or type_ is None:
                raise ShapeRefused(operation=operation, reason="an operand is missing")
            image = None if type_.layout == ROW_MAJOR else BlockedImage.of(pointer, type_, operation)
            found.append(BlockedOperand(pointer=pointer, image=image, is_number=type_.elements == 1))
        return cls(call.builder, call.target.float_lanes, tuple(found))

    def per_block(self, image: Value, block: Value, extent: tuple[int, int]) -> list[Value | None]:
        """What all pixels of a channel block share, read once; None for operands that differ by pixel.

        Args:
            image: number of the image.
            block: number of the channel block.
            extent: height and width of the result.
        """
        return [self._per_block(operand, image, block, extent) for operand in self.operands]

    def _per_block(
        self, operand: BlockedOperand, image: Value, block: Value, extent: tuple[int, int]
    ) -> Value | None:
        b, source = self.builder, operand.image
        if source is not None:
            spread = (source.height, source.width) == (1, 1) != extent
            return (
                b.load(operand.pointer, FLOAT, source.plane(b, image, block), lanes=self.lanes)
                if spread
                else None
            )
        if operand.is_number:
            return b.splat(b.load(operand.pointer, FLOAT), self.lanes)
        return b.load(operand.pointer, FLOAT, block * self.lanes, lanes=self.lanes)

    def starts(self, image: Value, block: Value, y: Index, x: Index) -> list[Value | None]:
        """Element offset of pixel (y, x) in each image operand."""
        return [
            None if o.image is None else o.image.pixel(self.builder, image, block, y, x)
            for o in self.operands
        ]

    def apply(
        self,
        program: Sequence[Instruction],
        value: Value | None,
        ready: Sequence[Value | None],
        starts: Sequence[Value | None],
        row: Index = 0,
        column: Index = 0,
    ) -> Value:
        """Run a program on one vector.

        Args:
            program: instructions over `value` (where given) and the operands.
            value: register 0, or None where the operands are all the registers.
            ready: from `per_block`.
            starts: from `starts`.
            row: rows below the start.
            column: pixels right of the start.
        """
        registers = [] if value is None else [(value, FLOAT)]
        for operand, loaded, start in zip(self.operands, ready, starts, strict=True):
            if loaded is None and start is not None and operand.image is not None:
                place = start + (row * operand.image.row_stride + column * self.lanes)
                loaded = self.builder.load(operand.pointer, FLOAT, place, lanes=self.lanes)
            if loaded is not None:
                registers.append((loaded, FLOAT))
        return emit_program(self.builder, program, registers)[0] if program else registers[0][0]
