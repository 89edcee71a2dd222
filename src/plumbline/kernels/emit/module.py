"""One LLVM module: functions, external declarations and constant tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.spelling import literal, memory_type
from plumbline.kernels.emit.value import Pointer

if TYPE_CHECKING:
    from plumbline.kernels.emit.ir import FunctionBuilder

__all__ = ["ATTRIBUTES", "ModuleBuilder"]

ATTRIBUTES = 'attributes #0 = { nounwind "no-trapping-math"="true" "frame-pointer"="none" }\n'


class ModuleBuilder:
    """The text of one LLVM module: functions, external declarations and constant tables."""

    def __init__(self) -> None:
        self._functions: list[str] = []
        self._declarations: dict[str, str] = {}
        self._globals: dict[str, str] = {}

    def function(
        self, name: str, parameters: Sequence[tuple[str, str]], *, result: str = "void", internal: bool = True
    ) -> FunctionBuilder:
        """Start a function; `finish()` on the builder adds its text to this module.

        Args:
            name: symbol name.
            parameters: (LLVM type with attributes, name) of each parameter.
            result: LLVM return type.
            internal: whether the symbol stays private to the module.
        """
        from plumbline.kernels.emit.ir import FunctionBuilder

        return FunctionBuilder(self, name, parameters, result, internal)

    def declare(self, name: str, signature: str) -> None:
        """Declare an external function once, `signature` being its whole `declare` line."""
        self._declarations.setdefault(name, signature)

    def add_text(self, text: str) -> None:
        """Add a finished definition."""
        self._functions.append(text)

    def table(self, name: str, dtype: DType, numbers: Sequence[int | float]) -> Pointer:
        """A private constant array; equal names must hold equal tables."""
        scalar = memory_type(dtype, 1)
        items = ", ".join(f"{scalar} {literal(dtype, n)}" for n in numbers)
        self._globals.setdefault(
            name, f"@{name} = private unnamed_addr constant [{len(numbers)} x {scalar}] [{items}], align 64"
        )
        return Pointer(f"@{name}")

    def text(self) -> str:
        """The whole module."""
        parts = [*self._globals.values(), *self._declarations.values(), *self._functions, ATTRIBUTES]
        return "\n".join(parts)
