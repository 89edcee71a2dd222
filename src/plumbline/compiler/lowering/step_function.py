"""One LLVM function per distinct step signature.

Parameters of a step function: the address of each present input, of each output, of this thread's workspace,
of the symbol values, and the range of units `[begin, end)`.
"""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import Kernel, KernelCall
from plumbline.kernels.emit.ir import ModuleBuilder, Pointer, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import DimEmitter

__all__ = ["emit_step_function", "step_parameters"]


def step_parameters(signature: StepSignature) -> list[tuple[str, str]]:
    """(LLVM type, name) of each parameter of a step function, in order."""
    inputs = [("ptr", f"in{i}") for i, t in enumerate(signature.inputs) if t is not None]
    outputs = [("ptr", f"out{i}") for i in range(len(signature.outputs))]
    return [*inputs, *outputs, ("ptr", "workspace"), ("ptr", "symbols"), ("i64", "begin"), ("i64", "end")]


def emit_step_function(
    module: ModuleBuilder,
    name: str,
    signature: StepSignature,
    kernel: Kernel,
    target: TargetDescription,
    symbols: Sequence[str],
    *,
    internal: bool = True,
) -> None:
    """Emit the function of one step signature into `module`.

    Args:
        module: receives the text.
        name: symbol name of the function.
        signature: operands and attributes.
        kernel: native code of the operation.
        target: instruction set to emit for.
        symbols: names of the symbols in the order of their run-time values.
        internal: whether the symbol stays private to the module.
    """
    b = module.function(name, step_parameters(signature), internal=internal)
    call = KernelCall(
        builder=b,
        target=target,
        signature=signature,
        input_pointers=tuple(
            None if t is None else Pointer(f"%in{i}") for i, t in enumerate(signature.inputs)
        ),
        output_pointers=tuple(Pointer(f"%out{i}") for i in range(len(signature.outputs))),
        begin=Value(b, "%begin", DType.INT64),
        end=Value(b, "%end", DType.INT64),
        workspace=Pointer("%workspace"),
        dim=DimEmitter(b, Pointer("%symbols"), symbols),
    )
    kernel.emit(call)
    b.finish()
