"""`OperationConformance`: the suite that a new operation inherits.

    class TestCentre(OperationConformance):
        contract = CENTRE

        def cases(self):
            yield OperationCase(name="rows", inputs=(np.ones((4, 3), np.float32),), rows=(0,))

The tests need only numpy; they hold the operation to what its contract declares: types, precision, code for
every target, operands that may share bytes, and bits that do not depend on splits, threads, batch or symbols
(requirements L1-02 to L1-05).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.graph import ExecutionGraph, TensorID
from plumbline.compiler.graph.text import format_graph, parse_graph
from plumbline.compiler.lowering.codegen import compile_object
from plumbline.compiler.lowering.step_function import emit_step_function
from plumbline.compiler.rows import check_rows
from plumbline.contracts.dims import evaluate, symbol
from plumbline.contracts.tensors import DType, TensorType
from plumbline.errors import PlumblineError
from plumbline.kernels.contract import Inference, Kernel, OperationContract
from plumbline.kernels.emit.ir import ModuleBuilder
from plumbline.kernels.emit.target import TARGETS
from plumbline.kernels.registry import get_operation
from plumbline.kernels.rows import NeverRows, RowCall, Rows
from plumbline.testing.kernels import run_native, signature_of, verify_operation
from plumbline.testing.models import open_model

__all__ = ["OperationCase", "OperationConformance"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationCase:
    """One call of an operation.

    Attributes:
        name: for messages.
        inputs: operands; None for absent optional ones.
        attributes: attributes of the operation.
        symbolic: (input, axis) -> name of the symbol that may stand for the extent.
        rows: inputs whose leading axis is a batch of independent rows; empty: the operation has none here.
    """

    name: str
    inputs: Sequence[np.ndarray | None]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    symbolic: Mapping[tuple[int, int], str] = field(default_factory=dict)
    rows: tuple[int, ...] = ()


class OperationConformance:
    """Inherit, set `contract`, and yield cases. The contract must be registered before the tests run."""

    contract: ClassVar[OperationContract]

    def cases(self) -> Iterable[OperationCase]:
        """Calls to test; at least one, with odd extents among them."""
        raise NotImplementedError

    # -- meaning -------------------------------------------------------------------------------------------

    def test_operation_is_registered_under_its_name(self) -> None:
        """Graphs find it by name."""
        assert get_operation(self.contract.name) is self.contract

    def test_reference_makes_the_types_that_the_shape_rule_states(self) -> None:
        """Shapes and element types agree."""
        for case in self._cases():
            signature, _ = signature_of(self.contract, case.inputs, case.attributes)
            made = self.contract.reference(list(case.inputs), case.attributes)
            for array, stated in zip(made, signature.outputs, strict=True):
                assert np.shape(array) == stated.shape, case.name
                assert stated.dtype is DType.BFLOAT16 or array.dtype == stated.dtype.numpy, case.name

    def test_missing_operands_are_refused_with_a_typed_error(self) -> None:
        """A damaged graph ends in the error tree, not in a traceback."""
        for case in self._cases():
            if not any(x is not None for x in case.inputs):
                continue
            try:
                self.contract.infer(
                    Inference(operation=self.contract.name, inputs=(), attributes=case.attributes)
                )
            except PlumblineError:
                continue
            raise AssertionError(f"{case.name}: the shape rule accepts a call without operands")

    # -- native code ---------------------------------------------------------------------------------------

    def test_native_code_agrees_with_the_reference_and_with_itself_in_pieces(self) -> None:
        """Within the declared precision; every split of the units gives the same bits."""
        for case in self._cases():
            verify_operation(self.contract, case.inputs, case.attributes)

    def test_symbolic_extents_give_the_bits_of_static_ones(self) -> None:
        """Run-time extents are the same code path."""
        for case in self._cases():
            if case.symbolic:
                verify_operation(self.contract, case.inputs, case.attributes, symbolic=case.symbolic)
                static = run_native(self.contract, case.inputs, case.attributes)
                symbolic = run_native(self.contract, case.inputs, case.attributes, symbolic=case.symbolic)
                _assert_same_bits(static, symbolic, case.name)

    def test_every_target_gets_code(self) -> None:
        """LLVM accepts the emitted text for each instruction set."""
        kernel = self._kernel()
        for case in self._cases():
            signature, symbols = signature_of(self.contract, case.inputs, case.attributes, case.symbolic)
            for target in TARGETS.values():
                module = ModuleBuilder()
                emit_step_function(module, "step", signature, kernel, target, tuple(symbols), internal=False)
                assert compile_object(module.text(), target), (case.name, target.name)

    def test_row_alone_has_the_bits_of_the_row_in_a_batch(self) -> None:
        """What the rule for rows promises to batching, whatever the other rows hold."""
        if isinstance(self.contract.rows, NeverRows):
            return
        for case in self._cases():
            if case.rows:
                places = self._places(case)
                alone = run_native(self.contract, _first_row(case), case.attributes)
                for inputs in (list(case.inputs), _other_rows_changed(case)):
                    whole = run_native(self.contract, inputs, case.attributes)
                    first = [_row_zero(o, p, a) for o, p, a in zip(whole, places, alone, strict=True)]
                    _assert_same_bits(first, alone, case.name)

    # -- in a model ----------------------------------------------------------------------------------------

    def test_graph_with_it_survives_its_text_form(self) -> None:
        """Attributes are plain enough to be written and read."""
        for case in self._cases():
            graph = self._graph(case)
            constants = {c.identity: c for c in graph.constants.values()}
            assert parse_graph(format_graph(graph), constants).digest == graph.digest, case.name

    def test_model_with_it_gives_the_same_bits_on_one_and_two_threads(self) -> None:
        """The operation between two copies, so that the planner may let it work in place."""
        for case in self._cases():
            expected = run_native(self.contract, case.inputs, case.attributes)
            inputs = {f"x{i}": x for i, x in enumerate(case.inputs) if x is not None}
            for threads in (1, 2):
                with (
                    tempfile.TemporaryDirectory() as folder,
                    open_model(self._graph(case), Path(folder), threads=threads) as model,
                ):
                    found = model.run(inputs)
                    again = model.run(inputs)
                _assert_same_bits(expected, list(found.values()), f"{case.name}, {threads} threads")
                _assert_same_bits(expected, list(again.values()), f"{case.name}, second run")

    # -- inside --------------------------------------------------------------------------------------------

    def _cases(self) -> list[OperationCase]:
        cases = list(self.cases())
        assert cases, "an operation without cases is not tested"
        return cases

    def _places(self, case: OperationCase) -> list[Rows]:
        """Where the rule says that the rows of every result lie."""
        count = symbol("rows")
        types = [None if x is None else TensorType(DType.of(x), x.shape) for x in case.inputs]
        for position in case.rows:
            given = types[position]
            assert given is not None, f"{case.name}: operand {position} is absent"
            types[position] = TensorType(given.dtype, (count, *given.shape[1:]))
        name = self.contract.name
        inference = Inference(operation=name, inputs=tuple(types), attributes=case.attributes)
        carried = tuple(Rows(symbol="rows", axis=0) if p in case.rows else None for p in range(len(types)))
        call = RowCall(
            operation=name, inputs=tuple(types), outputs=self.contract.infer(inference),
            attributes=case.attributes, symbols=frozenset({"rows"}), carried=carried,
        )  # fmt: skip
        answers = check_rows(call, self.contract.rows(call))
        places = [a for a in answers if not isinstance(a, str)]
        assert len(places) == len(answers), f"{case.name}: the rule refuses rows: {answers}"
        return places

    def _kernel(self) -> Kernel:
        assert self.contract.kernel is not None, "the operation has no native code"
        return self.contract.kernel

    def _graph(self, case: OperationCase) -> ExecutionGraph:
        builder = GraphBuilder("conformance")
        operands = [None if x is None else _operand(builder, i, x) for i, x in enumerate(case.inputs)]
        for position, result in enumerate(builder.add(self.contract.name, operands, case.attributes)):
            builder.output(f"y{position}", builder.add1("identity", [result]))
        return builder.build()


def _operand(builder: GraphBuilder, position: int, array: np.ndarray) -> TensorID:
    name = f"x{position}"
    given = builder.input(name, TensorType(DType.of(array), array.shape))
    return builder.add1("identity", [given])


def _first_row(case: OperationCase) -> list[np.ndarray | None]:
    return [x[:1] if x is not None and i in case.rows else x for i, x in enumerate(case.inputs)]


def _other_rows_changed(case: OperationCase) -> list[np.ndarray | None]:
    """The same first row; values that would show in all others."""
    changed: list[np.ndarray | None] = []
    for position, x in enumerate(case.inputs):
        if x is not None and position in case.rows:
            x = x.copy()
            x[1:] = np.nan if x.dtype.kind == "f" else x[1:][::-1]
        changed.append(x)
    return changed


def _row_zero(whole: np.ndarray, place: Rows, alone: np.ndarray) -> np.ndarray:
    """The part of row 0 in a result, where all repetitions have it first."""
    rows = whole.shape[place.axis] // max(alone.shape[place.axis], 1)
    cut = np.split(whole, evaluate(place.outer, {}) * rows, axis=place.axis)
    return np.concatenate(cut[::rows], axis=place.axis)


def _assert_same_bits(ours: Sequence[np.ndarray], other: Sequence[np.ndarray], where: str) -> None:
    for a, b in zip(ours, other, strict=True):
        if a.shape != b.shape or a.tobytes() != b.tobytes():
            raise AssertionError(f"{where}: the bits differ")
