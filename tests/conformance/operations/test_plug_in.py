"""A plug-in brings an operation of its own and passes the shipped suite unchanged (L1-02, L1-05)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from onnx import TensorProto, helper

import plumbline
from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.compiler.importers.onnx.registry import Converted, converts
from plumbline.contracts.dims import product
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import (
    DTypeRefused,
    Inference,
    KernelCall,
    OperationContract,
    Precision,
    Work,
)
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.registry import OperationConflict, find_operation, register
from plumbline.kernels.row_rules.folding import vectors
from plumbline.kernels.rows import no_row_rule
from plumbline.testing.operations import OperationCase, OperationConformance

# -- the plug-in: everything that a stranger writes --------------------------------------------------------


def infer(inference: Inference) -> tuple[TensorType, ...]:
    """Rows less their mean, times attribute `gain`: same type as the operand."""
    type_ = inference.type(0)
    if type_.dtype is not DType.FLOAT32:
        raise DTypeRefused(operation="acme_centre", dtype=type_.dtype.value, needed="float32")
    inference.require(type_.rank >= 1, "a scalar has no rows")
    return (type_,)


def reference(inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    (x,) = (np.asarray(a, np.float64) for a in inputs if a is not None)
    centred = x - x.mean(axis=-1, keepdims=True) if x.size else x
    return ((centred * attributes["gain"]).astype(np.float32),)


class CentreKernel:
    """One unit is one row."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        return Work(units=product(signature.outputs[0].shape[:-1]), unit_cost=64.0)

    def emit(self, call: KernelCall) -> None:
        b, x, y = call.builder, call.input(0), call.output()
        width = call.dim(call.signature.outputs[0].shape[-1])
        count = b.cast(b.index(width), DType.FLOAT32)
        gain = b.const(DType.FLOAT32, call.attributes["gain"])
        with b.range(call.begin, call.end) as row:
            total = b.variable(DType.FLOAT32, 0.0)
            with b.range(0, width) as column:
                total.set(total.get() + x.load_flat(row * width + column))
            mean = total.get() / count
            with b.range(0, width) as column:
                position = row * width + column
                y.store_flat((x.load_flat(position) - mean) * gain, position)


CENTRE = OperationContract(
    name="acme_centre", infer=infer, reference=reference, kernel=CentreKernel(),
    precision=Precision(relative=1e-5, absolute=1e-5), inplace=((0, 0),), dtypes=frozenset({DType.FLOAT32}),
    rows=vectors,
)  # fmt: skip

if find_operation("acme_centre") is None:
    register(CENTRE)


@converts("Centre", domain="com.acme")
def centre(node: NodeView) -> Converted:
    return node.add1("acme_centre", [node.input(0)], {"gain": node.float("gain", 1.0)})


# -- the shipped suite, unchanged --------------------------------------------------------------------------


def rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


class TestCentre(OperationConformance):
    contract: ClassVar[OperationContract] = CENTRE

    def cases(self) -> Iterator[OperationCase]:
        symbols = {(0, 0): "rows", (0, 1): "columns"}
        yield OperationCase(
            name="odd", inputs=(rows(5, 7),), attributes={"gain": 2.0}, symbolic=symbols, rows=(0,)
        )
        yield OperationCase(name="one element", inputs=(rows(1, 1),), attributes={"gain": 1.0}, rows=(0,))
        yield OperationCase(name="three axes", inputs=(rows(2, 3, 16),), attributes={"gain": -1.0}, rows=(0,))
        yield OperationCase(name="no rows", inputs=(rows(0, 4),), attributes={"gain": 1.0})


# -- end to end --------------------------------------------------------------------------------------------


def test_model_file_with_the_domain_of_the_plug_in_runs_natively(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path / "cache"))
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Centre", ["r"], ["y"], domain="com.acme", gain=3.0),
    ]
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, ["n", 6])], [value("y", TensorProto.FLOAT, ["n", 6])]
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)]
    data = helper.make_model(graph, opset_imports=opsets).SerializeToString()
    x = rows(4, 6)
    with plumbline.load(data, symbols={"n": 8}) as model:
        assert "acme_centre" in model.manifest.step_operations
        found = model.run({"x": x})["y"]
    clipped = np.maximum(x, 0)
    np.testing.assert_allclose(found, (clipped - clipped.mean(1, keepdims=True)) * 3, rtol=1e-4, atol=1e-5)


def test_second_operation_of_a_name_is_refused() -> None:
    with pytest.raises(OperationConflict, match="acme_centre"):
        register(CENTRE)


# -- the suite can fail ------------------------------------------------------------------------------------


class SplitsReductions(CentreKernel):
    """Wrong: skips every row of a piece but its first."""

    def emit(self, call: KernelCall) -> None:
        super().emit(replace(call, end=call.builder.minimum(call.builder.index(call.begin) + 1, call.end)))


class MixesRows(CentreKernel):
    """Wrong: every row ends with a number from the last one."""

    def emit(self, call: KernelCall) -> None:
        super().emit(call)
        b, x, y = call.builder, call.input(0), call.output()
        last = x.load_flat(b.index(x.elements) - 1)
        with b.range(call.begin, call.end) as row:
            y.store_flat(last, row * call.dim(call.signature.outputs[0].shape[-1]))


def wrong_rule(inference: Inference) -> tuple[TensorType, ...]:
    return (TensorType(DType.FLOAT32, (1,)),)


BROKEN = {
    "test_native_code_agrees_with_the_reference_and_with_itself_in_pieces": replace(
        CENTRE, kernel=SplitsReductions()
    ),
    "test_missing_operands_are_refused_with_a_typed_error": replace(CENTRE, infer=wrong_rule),
    "test_reference_makes_the_types_that_the_shape_rule_states": replace(CENTRE, infer=wrong_rule),
    "test_operation_is_registered_under_its_name": replace(CENTRE, rows=no_row_rule),
    "test_row_alone_has_the_bits_of_the_row_in_a_batch": replace(CENTRE, kernel=MixesRows()),
}


@pytest.mark.parametrize("test", BROKEN)
def test_suite_catches_an_operation_that_breaks_its_contract(test: str) -> None:
    class Broken(TestCentre):
        contract = BROKEN[test]

    with pytest.raises(AssertionError):
        getattr(Broken(), test)()


def test_suite_holds_native_code_to_the_declared_precision() -> None:
    class Broken(TestCentre):
        contract = replace(CENTRE, precision=Precision(relative=1e-12))

    with pytest.raises(AssertionError):
        Broken().test_native_code_agrees_with_the_reference_and_with_itself_in_pieces()
