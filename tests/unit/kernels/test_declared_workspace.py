"""The harness for operation authors holds kernels to the workspace that they declare."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import KernelCall, Work
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.registry import get_operation
from plumbline.testing.kernels import run_native, verify_operation


@dataclass(frozen=True)
class _ScratchKernel:
    """Copies its input by way of the workspace, of which it declares `declared_bytes`."""

    declared_bytes: int

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        return Work(workspace_bytes=self.declared_bytes)

    def emit(self, call: KernelCall) -> None:
        b, x, y = call.builder, call.input(0), call.output()
        with b.range(0, x.elements) as i:
            b.store(x.load_flat(i), call.workspace, i)
        with b.range(0, x.elements) as i:
            y.store_flat(b.load(call.workspace, DType.FLOAT32, i), i)


def test_kernel_that_writes_past_its_declared_workspace_is_caught() -> None:
    """L1-04."""
    x = np.arange(8, dtype=np.float32)
    honest = replace(get_operation("identity"), kernel=_ScratchKernel(declared_bytes=32))
    np.testing.assert_array_equal(run_native(honest, [x])[0], x)
    lying = replace(honest, kernel=_ScratchKernel(declared_bytes=28))
    with pytest.raises(AssertionError, match="workspace"):
        run_native(lying, [x])


def test_kernels_with_workspace_keep_to_what_they_declare() -> None:
    """L1-04, on operations that ask for scratch."""
    x = np.random.default_rng(0).standard_normal((3, 2, 40)).astype(np.float32)
    verify_operation(get_operation("softmax"), [x], {"axis": 1})
    verify_operation(get_operation("top_k"), [x], {"axis": -1, "k": 5, "largest": True, "sorted": True})
