"""Run one case in this process and classify it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plumbline.compiler.importers.onnx import ImportOptions, import_onnx
from plumbline.compiler.planning.program_text import parse_program
from plumbline.contracts.dims import upper_bound
from plumbline.contracts.program import Operand, PlannedProgram, Space
from plumbline.contracts.tensors import storage_bytes
from plumbline.errors import PlumblineError
from plumbline.testing.models import open_model
from plumbline.testing.onnx_suite.cases import SuiteCase
from plumbline.testing.onnx_suite.report import CaseResult, Outcome

if TYPE_CHECKING:
    from plumbline.engine.model import Model

__all__ = ["compare", "judge_case", "reads_inputs", "rounding_of"]

Arrays = Mapping[str, np.ndarray]


def judge_case(case: SuiteCase) -> CaseResult:
    """Build and run a case. Untyped errors pass through: the caller counts them as crashes."""
    began = time.perf_counter()
    try:
        facts = _judge_sets(case)
    except PlumblineError as error:
        facts = {"outcome": Outcome.REFUSED, "detail": error.message, "code": error.code}
    seconds = time.perf_counter() - began
    return CaseResult(name=case.name, kind=case.kind, operator=case.operator, seconds=seconds, **facts)


def _judge_sets(case: SuiteCase) -> dict[str, Any]:
    facts: dict[str, Any] = {"outcome": Outcome.FOLDED}
    for inputs, expected in case.data_sets:
        constants = {name: array for name, array in inputs.items() if name in case.bound}
        given = {name: array for name, array in inputs.items() if name not in case.bound}
        shapes = {name: array.shape for name, array in given.items()}
        options = ImportOptions(constants=constants, shapes=shapes)
        graph = import_onnx(case.model, options)
        with tempfile.TemporaryDirectory(prefix="case-") as folder, open_model(graph, Path(folder)) as model:
            ours = model.run(given)
            difference = compare(ours, expected, case.rtol, case.atol)
            if difference and compare(ours, expected, case.rtol, case.atol, rounding=True):
                return {"outcome": Outcome.WRONG, "detail": difference}
            computed, moved = _native_work(model)
            if computed or moved:
                facts = {"outcome": Outcome.PASSED, "moves_only": not computed}
            facts["rounding"] = bool(difference)
    return facts


def compare(ours: Arrays, expected: Arrays, rtol: float, atol: float, *, rounding: bool = False) -> str:
    """How the outputs differ beyond the tolerance, or an empty text.

    Args:
        ours: computed outputs by name.
        expected: expected outputs by name.
        rtol: relative tolerance.
        atol: absolute tolerance.
        rounding: whether the rounding of the expected outputs is allowed as well (`rounding_of`).
    """
    for name, reference in expected.items():
        array = ours.get(name)
        if array is None:
            return f"output {name!r} is missing"
        if array.shape != reference.shape or array.dtype != reference.dtype:
            return (
                f"output {name!r} is {array.dtype}{list(array.shape)}, "
                f"expected {reference.dtype}{list(reference.shape)}"
            )
        allowed = max(atol, rounding_of(reference)) if rounding else atol
        try:
            np.testing.assert_allclose(array, reference, rtol=rtol, atol=allowed)
        except AssertionError as error:
            return f"output {name!r}: " + " ".join(str(error).split())[:600]
    return ""


def rounding_of(reference: np.ndarray) -> float:
    """One unit in the last place of the largest element.

    The suite computes outputs in their own type; its absolute tolerance of 1e-7 is finer than their rounding
    where terms of size 1 cancel. Three cases need it. `dft_inverse*`: numpy 2 transforms complex64 in
    float32, so that 1.9e-7 is expected where the exact value is 0; no exact transform can meet that.
    `attention_4d_causal_fp16_expanded`: its Softmax node is expected to round every exponential and their
    sum to float16; ours rounds once, closer to the exact probabilities, and two outputs differ by it.
    """
    if reference.dtype.kind != "f":
        return 0.0
    finite = np.abs(reference[np.isfinite(reference)].astype(np.float64))
    return float(np.finfo(reference.dtype).eps * finite.max(initial=0.0))


def _native_work(model: Model) -> tuple[bool, bool]:
    """Whether a step computes, and whether a copy carries data of the inputs."""
    computed = any(operation != "identity" for operation in model.manifest.step_operations)
    if model.folder is None:
        return computed, False
    program = parse_program((model.folder / "program.json").read_text(encoding="utf-8"))
    return computed, reads_inputs(program)


def reads_inputs(program: PlannedProgram) -> bool:
    """Whether an output holds bytes that come from an input, followed address by address."""
    tainted = [_extent(o, program) for o in program.inputs.values()]
    for step in program.steps:
        sources = [_extent(o, program) for o in step.inputs if o is not None]
        results = [_extent(o, program) for o in step.outputs]
        if any(_overlap(a, b) for a in sources for b in tainted):
            tainted += results
        else:
            tainted = [t for t in tainted if not any(_covers(r, t) for r in results)]
    return any(_overlap(_extent(o, program), t) for o in program.outputs.values() for t in tainted)


Extent = tuple[Space, int, int]


def _extent(operand: Operand, program: PlannedProgram) -> Extent:
    size = upper_bound(storage_bytes(operand.type), program.symbols)
    return operand.space, operand.offset, operand.offset + size


def _overlap(a: Extent, b: Extent) -> bool:
    return a[0] is b[0] and a[1] < b[2] and b[1] < a[2]


def _covers(a: Extent, b: Extent) -> bool:
    return a[0] is b[0] and a[1] <= b[1] and b[2] <= a[2]
