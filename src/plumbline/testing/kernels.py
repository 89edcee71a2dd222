"""Run one operation natively on arrays, and hold it to its contract.

For authors of operations: `run_native` compiles the kernel of a contract for this machine and calls it once;
`verify_operation` compares it with the reference inside the declared precision, in several splits of its
units, with workspace and outputs filled with NaN first. bfloat16 operands are arrays of
`ml_dtypes.bfloat16`; references see them as float32.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from plumbline.compiler.lowering.codegen import compile_object
from plumbline.compiler.lowering.step_function import emit_step_function
from plumbline.contracts import dims
from plumbline.contracts.dims import Expr
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import Inference, OperationContract, Precision
from plumbline.kernels.emit.ir import ModuleBuilder
from plumbline.kernels.emit.target import AVX2, AVX512, NEON, TargetDescription
from plumbline.kernels.pointwise.conversion_functions import round_to_bfloat16

__all__ = ["NativeOperation", "bfloat16_values", "host_target", "run_native", "verify_operation"]


def host_target() -> TargetDescription:
    """The widest target description that this machine runs."""
    host = llvm.get_host_cpu_features()
    if llvm.get_default_triple().startswith(("aarch64", "arm64")):
        return NEON
    return AVX512 if host.get("avx512f") and host.get("avx512vl") else AVX2


_engines: list[Any] = []


GUARD, GUARD_BYTES = 0xA5, 4096
"""What lies behind the declared workspace, and must still lie there after a run (requirement L1-04)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeOperation:
    """A compiled step function with the number of its units and its workspace."""

    signature: StepSignature
    address: int
    symbols: Mapping[str, int]
    units: int
    workspace_bytes: int

    def __call__(
        self, inputs: Sequence[np.ndarray | None], cuts: Sequence[int] = (), poison: bool = True
    ) -> tuple[np.ndarray, ...]:
        """Run over all units, split at `cuts`, later pieces first. Returns fresh output arrays.

        Raises:
            AssertionError: the kernel used more workspace than it declared.
        """
        arrays = [np.ascontiguousarray(x) for x in inputs if x is not None]
        outputs = tuple(_output(t, self.symbols, poison) for t in self.signature.outputs)
        workspace = np.full(self.workspace_bytes + 64 + GUARD_BYTES, 0xFF, np.uint8)
        offset = -workspace.ctypes.data % 64
        guard = workspace[offset + self.workspace_bytes :]
        guard[...] = GUARD
        values = np.array([*self.symbols.values(), 0], np.int64)
        pointers = [a.ctypes.data for a in (*arrays, *outputs)]
        pointers += [workspace.ctypes.data + offset, values.ctypes.data]
        function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(pointers), ctypes.c_int64, ctypes.c_int64)(
            self.address
        )
        edges = [0, *sorted(c for c in cuts if 0 < c < self.units), self.units]
        for begin, end in reversed(list(pairwise(edges))):
            function(*pointers, begin, end)
        if not (guard == GUARD).all():
            raise AssertionError(f"{self.signature.operation} wrote past the workspace that it declared")
        return outputs


def _output(type_: TensorType, symbols: Mapping[str, int], poison: bool) -> np.ndarray:
    shape = tuple(dims.evaluate(d, symbols) for d in type_.shape)
    array = np.zeros(shape, type_.dtype.numpy)
    if poison:
        _bytes(array)[...] = 0xFF if type_.dtype is not DType.BOOL else 1
    return array


def _bytes(array: np.ndarray) -> np.ndarray:
    """The bytes of a contiguous array of any rank as one axis."""
    return array.reshape(-1).view(np.uint8)


def compile_operation(
    contract: OperationContract,
    signature: StepSignature,
    symbols: Mapping[str, int],
    target: TargetDescription | None = None,
) -> NativeOperation:
    """Compile the kernel of an operation for one signature."""
    if contract.kernel is None:
        raise ValueError(f"operation {contract.name} has no kernel")
    target = target or host_target()
    work = contract.kernel.work(signature, target)
    module = ModuleBuilder()
    name = "step_" + hashlib.sha256(repr(signature).encode()).hexdigest()[:16]
    emit_step_function(module, name, signature, contract.kernel, target, tuple(symbols), internal=False)
    code = compile_object(module.text(), target)
    engine = llvm.create_mcjit_compiler(
        llvm.parse_assembly(""), llvm.Target.from_default_triple().create_target_machine(opt=2)
    )
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return NativeOperation(
        signature=signature, address=engine.get_function_address(name), symbols=symbols,
        units=dims.evaluate(work.units, symbols), workspace_bytes=work.workspace_bytes,
    )  # fmt: skip


def signature_of(
    contract: OperationContract,
    inputs: Sequence[np.ndarray | None],
    attributes: Mapping[str, Any],
    symbolic: Mapping[tuple[int, int], str] | None = None,
) -> tuple[StepSignature, dict[str, int]]:
    """The signature of a call on arrays.

    Args:
        contract: the operation.
        inputs: arrays.
        attributes: attributes of the operation.
        symbolic: (input, axis) -> symbol name; those extents become run-time values.
    """
    symbols: dict[str, int] = {}
    types: list[TensorType | None] = []
    for position, array in enumerate(inputs):
        if array is None:
            types.append(None)
            continue
        shape: list[int | Expr] = list(array.shape)
        for axis in range(array.ndim):
            name = (symbolic or {}).get((position, axis))
            if name is not None:
                symbols[name] = array.shape[axis]
                shape[axis] = dims.symbol(name)
        types.append(TensorType(DType.of(array), tuple(shape)))
    inference = Inference(operation=contract.name, inputs=tuple(types), attributes=attributes)
    signature = StepSignature(
        operation=contract.name, inputs=tuple(types), outputs=contract.infer(inference), attributes=attributes
    )
    return signature, symbols


def run_native(
    contract: OperationContract,
    inputs: Sequence[np.ndarray | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    symbolic: Mapping[tuple[int, int], str] | None = None,
    target: TargetDescription | None = None,
) -> tuple[np.ndarray, ...]:
    """Compile and run an operation once on this machine."""
    signature, symbols = signature_of(contract, inputs, attributes or {}, symbolic)
    return compile_operation(contract, signature, symbols, target)(inputs)


def verify_operation(
    contract: OperationContract,
    inputs: Sequence[np.ndarray | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    symbolic: Mapping[tuple[int, int], str] | None = None,
    target: TargetDescription | None = None,
) -> None:
    """Hold native code to the contract on these inputs.

    Raises:
        AssertionError: shapes, types or values differ from the reference beyond the declared precision, or
            bits depend on how the units were split.
    """
    attributes = attributes or {}
    signature, symbols = signature_of(contract, inputs, attributes, symbolic)
    native = compile_operation(contract, signature, symbols, target)
    whole = native(inputs)
    pieces = native(inputs, cuts=(1, native.units // 3, native.units // 2, native.units - 1))
    concrete = {name: _concrete(v, symbols) for name, v in attributes.items()}
    expected = contract.reference([_for_reference(x) for x in inputs], concrete)
    for position, (ours, split, reference) in enumerate(zip(whole, pieces, expected, strict=True)):
        where = f"{contract.name} output {position}"
        np.testing.assert_equal(ours.shape, np.shape(reference), err_msg=where)
        np.testing.assert_array_equal(_bytes(ours), _bytes(split), err_msg=f"{where}: split")
        dtype = signature.outputs[position].dtype
        _compare(ours, np.asarray(reference), dtype, contract.precision, where)


def _concrete(attribute: Any, symbols: Mapping[str, int]) -> Any:
    """An attribute with its symbolic dimensions replaced by their values."""
    if isinstance(attribute, Expr):
        return dims.evaluate(attribute, symbols)
    return tuple(_concrete(a, symbols) for a in attribute) if isinstance(attribute, tuple) else attribute


def _for_reference(array: np.ndarray | None) -> np.ndarray | None:
    """References see bfloat16 as float32."""
    is_bfloat16 = array is not None and DType.of(array) is DType.BFLOAT16
    return array.astype(np.float32) if array is not None and is_bfloat16 else array


_DOUBLE = 2.0**-29
"""Spacing of float64 over that of float32, in which precision is declared."""
_HALVES = {DType.FLOAT16: (2.0**-10, 2.0**-24), DType.BFLOAT16: (2.0**-7, 2.0**-133)}
"""Relative and absolute spacing of half-width types: they are computed in float32 and rounded once."""


def tolerance(dtype: DType, precision: Precision) -> tuple[float, float]:
    """(relative, absolute) distance from the reference that a result of `dtype` may have."""
    if dtype in _HALVES:
        relative, absolute = _HALVES[dtype]
        return precision.relative + relative, precision.absolute + absolute
    scale = _DOUBLE if dtype is DType.FLOAT64 else 1.0
    return precision.relative * scale, precision.absolute * scale


def bfloat16_values(stored: np.ndarray) -> np.ndarray:
    """The numbers of bfloat16 bits (as uint16), as float32."""
    bits = np.ascontiguousarray(stored).astype(np.uint32) << np.uint32(16)
    return bits.reshape(-1).view(np.float32).reshape(stored.shape)


def _compare(ours: np.ndarray, reference: np.ndarray, dtype: DType, precision: Precision, where: str) -> None:
    if dtype is DType.BFLOAT16:
        ours, reference = bfloat16_values(ours), _nearest_bfloat16(reference)
    elif reference.dtype != ours.dtype:
        raise AssertionError(f"{where}: reference is {reference.dtype}, native is {ours.dtype}")
    if not dtype.is_float or precision.relative == precision.absolute == 0.0:
        np.testing.assert_array_equal(ours, reference, err_msg=where)
        return
    relative, absolute = tolerance(dtype, precision)
    np.testing.assert_allclose(
        ours.astype(np.float64), reference.astype(np.float64), rtol=relative, atol=absolute, err_msg=where
    )


def _nearest_bfloat16(reference: np.ndarray) -> np.ndarray:
    if reference.dtype.kind != "f":
        raise AssertionError(f"a bfloat16 result is given as floats, not as {reference.dtype}")
    return round_to_bfloat16(reference)
