"""Typed builder of LLVM IR text: the vocabulary that kernels are written in.

`FunctionBuilder` gives kernels a small vocabulary: typed values with Python operators, loads and stores,
counted loops, selects and the arithmetic of ONNX. Everything is static single assignment text; mutable
`Variable`s are stack slots that LLVM's SROA pass turns into registers. A plain Python `int` stands for an
index constant wherever an index is wanted, so extents may be integers (static) or values (symbolic) without a
second code path.

No fast-math flag is ever written: results are those of the operations in the order in which they stand
(design, section 3: bits do not depend on threads, batch mix or bounds).
"""

from __future__ import annotations

from plumbline.kernels.emit.access import Variable
from plumbline.kernels.emit.control import ControlFlow
from plumbline.kernels.emit.module import ModuleBuilder
from plumbline.kernels.emit.spelling import llvm_type
from plumbline.kernels.emit.value import Index, Operand, Pointer, Value, is_value

__all__ = [
    "FunctionBuilder",
    "Index",
    "ModuleBuilder",
    "Operand",
    "Pointer",
    "Value",
    "Variable",
    "is_value",
    "llvm_type",
]


class FunctionBuilder(ControlFlow):
    """Emits one LLVM function: text, conversions, arithmetic, memory and control flow, layer on layer."""
