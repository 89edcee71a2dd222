"""Movement, indexing and sampling kernels compile for every target description and element type."""

from __future__ import annotations

from typing import Any

import pytest

from plumbline.compiler.lowering.codegen import compile_assembly
from plumbline.compiler.lowering.step_function import emit_step_function
from plumbline.contracts.dims import symbol
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import Inference
from plumbline.kernels.emit.ir import ModuleBuilder
from plumbline.kernels.emit.target import AVX2, AVX512, NEON, TargetDescription
from plumbline.kernels.registry import get_operation

S = symbol("s")
INDEX = DType.INT64
RESIZE = {
    "shape": (S, 3, 5, 40), "scales": (None,) * 4, "mode": "cubic", "coordinates": "half_pixel",
    "nearest": "floor", "cubic_a": -0.75, "exclude_outside": True, "antialias": False, "extrapolation": 0.0,
    "roi": (),
}  # fmt: skip


def cases(dtype: DType) -> dict[str, tuple[list[TensorType], dict[str, Any]]]:
    """Operands and attributes by operation."""

    def x(*shape: Any) -> TensorType:
        return TensorType(dtype, shape)

    movement: dict[str, tuple[list[TensorType], dict[str, Any]]] = {
        "transpose": ([x(2, S, 40)], {"perm": (0, 2, 1)}),
        "pad": ([x(S, 30)], {"mode": "reflect", "before": (1, 2), "after": (0, -3)}),
        "trilu": ([x(S, 9)], {"upper": True}),
        "scatter_elements": ([x(S, 30), TensorType(INDEX, (S, 4)), x(S, 4)], {"axis": 0, "reduction": "max"}),
        "gather": ([x(S, 30), TensorType(INDEX, (4,))], {"axis": 0}),
    }
    sampling: dict[str, tuple[list[TensorType], dict[str, Any]]] = {
        "resize": ([x(S, 3, S, 30)], RESIZE),
        "grid_sample": ([x(S, 3, 9, 30), x(S, 2, S, 2)], {
            "mode": "linear", "padding": "reflection", "align_corners": True,
        }),
    }  # fmt: skip
    return movement | (sampling if dtype.is_float else {})


def assembly(operation: str, dtype: DType, target: TargetDescription) -> str:
    types, attributes = cases(dtype)[operation]
    contract = get_operation(operation)
    inference = Inference(operation=operation, inputs=tuple(types), attributes=attributes)
    signature = StepSignature(
        operation=operation, inputs=tuple(types), outputs=contract.infer(inference), attributes=attributes
    )
    module = ModuleBuilder()
    assert contract.kernel is not None
    emit_step_function(module, "step", signature, contract.kernel, target, ("s",), internal=False)
    return compile_assembly(module.text(), target)


@pytest.mark.parametrize("target", [AVX512, AVX2, NEON], ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.BFLOAT16, DType.BOOL, DType.INT64])
def test_every_kernel_compiles_without_calling_out(target: TargetDescription, dtype: DType) -> None:
    """Data movement needs no library: no call is left in the code, for symbolic extents and any type."""
    for operation in cases(dtype):
        text = assembly(operation, dtype, target)
        calls = [line for line in text.splitlines() if line.split()[:1] in (["call"], ["callq"], ["bl"])]
        assert operation in ("resize", "grid_sample") or not calls


def test_transpose_turns_tiles_in_vector_registers() -> None:
    text = assembly("transpose", DType.FLOAT32, AVX512)
    assert sum("zmm" in line for line in text.splitlines()) > 64
