"""The text of a function under construction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.module import ModuleBuilder
from plumbline.kernels.emit.value import Value

if TYPE_CHECKING:
    from plumbline.kernels.emit.ir import FunctionBuilder

__all__ = ["FunctionText"]


class FunctionText:
    """The lines of one LLVM function, its registers and its basic blocks."""

    def __init__(
        self,
        module: ModuleBuilder,
        name: str,
        parameters: Sequence[tuple[str, str]],
        result: str,
        internal: bool,
    ) -> None:
        self.module, self.name = module, name
        arguments = ", ".join(f"{kind} %{label}" for kind, label in parameters)
        linkage = "internal" if internal else ""
        self._head = f"define {linkage} {result} @{name}({arguments}) #0 {{"
        self._allocas: list[str] = []
        self._lines: list[str] = []
        self._counter = 0
        self._block = "body"

    @property
    def builder(self) -> FunctionBuilder:
        """This object, which is always the whole builder."""
        return cast("FunctionBuilder", self)

    def value(self, text: str, dtype: DType, lanes: int = 1) -> Value:
        """A register or constant of this function."""
        return Value(self.builder, text, dtype, lanes)

    def fresh(self, prefix: str = "v") -> str:
        """A new register or label name without sigil."""
        self._counter += 1
        return f"{prefix}{self._counter}"

    def emit(self, text: str, dtype: DType, lanes: int = 1) -> Value:
        """Emit an instruction that yields a value."""
        name = f"%{self.fresh()}"
        self._lines.append(f"  {name} = {text}")
        return self.value(name, dtype, lanes)

    def statement(self, text: str) -> None:
        """Emit an instruction without a result."""
        self._lines.append(f"  {text}")

    def label(self, name: str) -> None:
        """Start a basic block."""
        self._lines.append(f"{name}:")
        self._block = name

    @property
    def block(self) -> str:
        """Name of the basic block that is being filled (for hand-written phi nodes)."""
        return self._block

    def reserve_line(self) -> int:
        """Keep a place for a line that is known only later (a phi)."""
        self._lines.append("")
        return len(self._lines) - 1

    def fill_line(self, place: int, text: str) -> None:
        """Fill a place from `reserve_line`."""
        self._lines[place] = f"  {text}"

    def finish(self, result: Value | None = None) -> None:
        """Return from the function and hand its text to the module."""
        self.statement("ret void" if result is None else f"ret {result.type} {result.text}")
        lines = [self._head, "entry:", *self._allocas, "  br label %body", "body:", *self._lines, "}", ""]
        self.module.add_text("\n".join(lines))
