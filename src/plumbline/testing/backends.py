"""The suite that every compute backend passes. Inherit it and say how to make the backend:

    class TestMyBackend(BackendConformance):
        def make_backend(self) -> ComputeBackend:
            return MyBackend()

Calls are taken from `SAMPLES` where the backend declares their operation and type; override `calls` to add
those of operations of your own. A backend that the samples never reach fails: nothing would have been tested.
"""

from __future__ import annotations

import asyncio
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.errors import PlumblineError, Recoverability
from plumbline.execution.backend import (
    ComputeBackend,
    GraphPart,
    OperationCapability,
    PartNode,
    RetargetPath,
    describe_backend,
)
from plumbline.execution.backend_refusals import (
    BackendClosed,
    BackendMemoryRefused,
    OperandRefused,
    OperationUnsupported,
)
from plumbline.kernels.contract import Inference, Precision
from plumbline.kernels.registry import find_operation, get_operation
from plumbline.testing.kernels import tolerance

__all__ = ["SAMPLES", "BackendConformance", "Call", "call_of"]

Call = tuple[StepSignature, tuple[np.ndarray | None, ...]]


def call_of(operation: str, *arrays: np.ndarray | None, **attributes: Any) -> Call:
    """A call of a registered operation on arrays."""
    types = tuple(None if a is None else TensorType(DType.of(a), a.shape) for a in arrays)
    inference = Inference(operation=operation, inputs=types, attributes=attributes)
    outputs = get_operation(operation).infer(inference)
    signature = StepSignature(operation=operation, inputs=types, outputs=outputs, attributes=attributes)
    return signature, arrays


def _samples() -> Iterator[Call]:
    rng = np.random.default_rng(11)
    a, b = (rng.standard_normal((3, 5)).astype(np.float32) for _ in range(2))
    for dtype in (np.float32, np.float64, np.int64):
        x, y = (8 * a).astype(dtype), (8 * b).astype(dtype)
        for operation in ("add", "mul", "maximum"):
            yield call_of(operation, x, y)
            yield call_of(operation, x, y[:1])
    for operation in ("relu", "tanh", "neg"):
        yield call_of(operation, a)
    yield call_of("matmul", a, np.ascontiguousarray(b.T))
    yield call_of("transpose", a, perm=(1, 0))
    yield call_of("concat", a, b, axis=1)
    yield call_of("reduce_sum", a, axes=(1,), keepdims=True)
    yield call_of("softmax", a, axis=1)


SAMPLES: tuple[Call, ...] = tuple(_samples())
"""Small calls of common operations."""

ABSENT = StepSignature(
    operation="an_operation_that_nobody_has",
    inputs=(TensorType(DType.FLOAT32, (2,)),),
    outputs=(TensorType(DType.FLOAT32, (2,)),),
)


PORT_REFUSALS = {e.code for e in (OperationUnsupported, OperandRefused, BackendMemoryRefused, BackendClosed)}


class BackendConformance(ABC):
    """What a user of any backend may rely on."""

    @abstractmethod
    def make_backend(self) -> ComputeBackend:
        """A fresh backend; the suite closes it."""

    def calls(self) -> Sequence[Call]:
        """Calls to try; those that the backend refuses are left out."""
        return SAMPLES

    # -- what it says of itself --------------------------------------------------------------------------

    def test_capabilities_are_listed_once_and_do_not_change(self) -> None:
        """L1-06, L1-13."""
        with self._open() as backend:
            first, second = backend.get_capabilities(), backend.get_capabilities()
            names = [capability.operation for capability in first]
            assert first == second
            assert names
            assert len(names) == len(set(names))
            assert all(isinstance(c, OperationCapability) and c.dtypes for c in first)
            assert all(c.relative >= 0 and c.absolute >= 0 and np.isfinite(c.relative) for c in first)

    def test_every_declared_operation_is_known_to_the_runtime(self) -> None:
        """A name means one thing everywhere."""
        with self._open() as backend:
            unknown = [c.operation for c in backend.get_capabilities() if find_operation(c.operation) is None]
            assert unknown == []

    def test_limits_failure_modes_and_path_are_stated(self) -> None:
        """L1-06, L2-09."""
        with self._open() as backend:
            limits = backend.limits
            assert limits.memory_bytes is None or limits.memory_bytes > 0
            assert limits.parallel_runs >= 1
            assert backend.failure_modes
            for mode in backend.failure_modes:
                assert mode.code
                assert mode.when
                assert mode.recoverability in {r.value for r in Recoverability}
            assert backend.specialisation.backend == backend.name
            assert isinstance(backend.specialisation.path, RetargetPath)
            assert backend.specialisation.target
            assert describe_backend(backend) == describe_backend(backend)

    # -- single operations -------------------------------------------------------------------------------

    def test_results_lie_within_the_declared_precision(self) -> None:
        """L1-03, L1-13."""
        with self._open() as backend:
            for signature, params in self._accepted(backend):
                result = _execute(backend, signature, params)
                assert result.backend == backend.name
                assert result.duration_ns >= 0
                _compare(signature, params, result.outputs, _capability(backend, signature))

    def test_operands_are_not_changed(self) -> None:
        """The caller's arrays stay the caller's."""
        with self._open() as backend:
            for signature, params in self._accepted(backend):
                before = [None if p is None else p.tobytes() for p in params]
                _execute(backend, signature, params)
                assert [None if p is None else p.tobytes() for p in params] == before

    def test_the_same_call_gives_the_same_bits_alone_and_beside_others(self) -> None:
        """Any number of calls may be under way."""
        with self._open() as backend:
            calls = self._accepted(backend)
            alone = [_bits(_execute(backend, *call).outputs) for call in calls]

            async def beside() -> list[Any]:
                return list(await asyncio.gather(*(backend.execute(*call) for call in calls)))

            assert [_bits(result.outputs) for result in asyncio.run(beside())] == alone

    def test_not_a_number_stays_one(self) -> None:
        """Results on NaN are those of the reference."""
        with self._open() as backend:
            for signature, params in self._accepted(backend):
                first = params[0]
                if first is None or not np.issubdtype(first.dtype, np.floating):
                    continue
                poisoned = first.copy()
                poisoned.reshape(-1)[1] = np.nan
                operands = (poisoned, *params[1:])
                result = _execute(backend, signature, operands)
                _compare(signature, operands, result.outputs, _capability(backend, signature))

    # -- refusals ----------------------------------------------------------------------------------------

    def test_an_operation_that_it_does_not_have_is_refused_by_name(self) -> None:
        """L1-06: no silent fallback."""
        with self._open() as backend:
            assert backend.find_refusal(ABSENT)
            with pytest.raises(OperationUnsupported, match=ABSENT.operation) as refused:
                _execute(backend, ABSENT, (np.zeros(2, np.float32),))
            assert refused.value.recoverability is Recoverability.PERMANENT

    def test_an_element_type_that_it_does_not_declare_is_refused(self) -> None:
        """Capabilities and refusals agree."""
        with self._open() as backend:
            for capability in backend.get_capabilities():
                for dtype in set(DType) - capability.dtypes:
                    type_ = TensorType(dtype, (2,))
                    name = capability.operation
                    signature = StepSignature(operation=name, inputs=(type_,), outputs=(type_,))
                    assert backend.find_refusal(signature), f"{name} of {dtype}"

    def test_an_array_of_another_type_is_refused(self) -> None:
        """Element type, extents and number of operands are checked."""
        with self._open() as backend:
            signature, params = self._accepted(backend)[0]
            first = params[0]
            assert first is not None
            wrong = (first.astype(np.complex64), np.repeat(first, 2, axis=0), first.reshape(1, *first.shape))
            for array in wrong:
                with pytest.raises(OperandRefused):
                    _execute(backend, signature, (array, *params[1:]))
            with pytest.raises(OperandRefused):
                _execute(backend, signature, params[:-1])

    def test_more_than_its_memory_is_refused_before_anything_runs(self) -> None:
        """L1-06: resource limits bind."""
        with self._open() as backend:
            limit = backend.limits.memory_bytes
            signature, params = self._accepted(backend)[0]
            first = signature.inputs[0]
            assert first is not None
            if limit is None:
                return
            rows = limit // first.dtype.size_bytes + 1
            type_ = TensorType(first.dtype, (rows, *(1 for _ in first.shape[1:])))
            huge = dataclasses.replace(signature, inputs=(type_,) * len(params), outputs=(type_,))
            array = np.broadcast_to(np.zeros((), first.dtype.numpy), tuple(int(str(d)) for d in type_.shape))
            with pytest.raises(BackendMemoryRefused):
                _execute(backend, huge, (array,) * len(params))

    # -- parts -------------------------------------------------------------------------------------------

    def test_placed_tensors_come_back_as_they_were(self) -> None:
        """Scalars and empty tensors too; releasing twice is harmless."""
        with self._open() as backend:
            for shape in ((), (0,), (3, 4), (1, 2, 3)):
                array = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
                placed = backend.place(array, DType.FLOAT32)
                assert (placed.shape, placed.dtype) == (shape, DType.FLOAT32)
                np.testing.assert_array_equal(backend.fetch(placed), array)
                placed.release()
                placed.release()

    def test_a_compiled_part_gives_what_its_operations_give(self) -> None:
        """L2-06: and it may run again."""
        with self._open() as backend:
            signature, params = self._chainable(backend)
            once = _execute(backend, signature, params).outputs[0]
            twice = _execute(backend, signature, (once, *params[1:])).outputs[0]
            compiled = backend.compile(_chain(signature, params))
            assert compiled.specialisation.backend == backend.name
            for _ in range(2):
                placed = backend.place(_array(params[0]), DType.of(_array(params[0])))
                outputs = compiled.run({"x": placed}, {})
                np.testing.assert_array_equal(backend.fetch(outputs["twice"]), twice)
                for tensor in (placed, *outputs.values()):
                    tensor.release()
            compiled.close()

    def test_a_part_with_a_refused_operation_is_refused(self) -> None:
        """L1-06: compiling asks the same question as selection."""
        with self._open() as backend:
            part = _chain(*self._chainable(backend))
            node = dataclasses.replace(part.nodes[1], signature=ABSENT, inputs=("once",))
            with pytest.raises(OperationUnsupported, match=ABSENT.operation):
                backend.compile(dataclasses.replace(part, nodes=(part.nodes[0], node)))

    # -- its end -----------------------------------------------------------------------------------------

    def test_a_closed_backend_says_so(self) -> None:
        """Closing twice is harmless."""
        backend = self.make_backend()
        signature, params = self._accepted(backend)[0]
        part = _chain(*self._chainable(backend))
        backend.close()
        backend.close()
        with pytest.raises(BackendClosed):
            _execute(backend, signature, params)
        with pytest.raises(BackendClosed):
            backend.compile(part)

    # -- inside ------------------------------------------------------------------------------------------

    @contextmanager
    def _open(self) -> Iterator[ComputeBackend]:
        backend = self.make_backend()
        try:
            yield backend
        finally:
            backend.close()

    def _accepted(self, backend: ComputeBackend) -> list[Call]:
        accepted = [call for call in self.calls() if backend.find_refusal(call[0]) is None]
        assert accepted, "no sample call fits the backend: override `calls`"
        return accepted

    def _chainable(self, backend: ComputeBackend) -> Call:
        """A call whose result may be its first operand again."""
        for signature, params in self._accepted(backend):
            if signature.outputs == signature.inputs[:1]:
                return signature, params
        raise AssertionError("no sample call can be chained: override `calls`")


@dataclasses.dataclass(frozen=True, slots=True)
class _Given:
    """A constant of a part."""

    array: np.ndarray

    @property
    def identity(self) -> str:
        """Its bytes in full: samples are small."""
        return f"{self.array.dtype}{self.array.shape}{self.array.tobytes().hex()}"

    def read(self) -> np.ndarray:
        """The array itself."""
        return self.array


def _chain(signature: StepSignature, params: Sequence[np.ndarray | None]) -> GraphPart:
    """`twice = f(f(x, rest), rest)`, with the rest as constants."""
    constants = {f"c{i}": _Given(_array(p)) for i, p in enumerate(params) if i and p is not None}
    rest = tuple(f"c{i}" if p is not None else None for i, p in enumerate(params) if i)
    types: dict[str, TensorType] = dict.fromkeys(("x", "once", "twice"), signature.outputs[0])
    types |= {name: TensorType(DType.of(c.array), c.array.shape) for name, c in constants.items()}
    first = PartNode(name="first", signature=signature, inputs=("x", *rest), outputs=("once",))
    second = PartNode(name="second", signature=signature, inputs=("once", *rest), outputs=("twice",))
    return GraphPart(
        name="chain", symbols={}, nodes=(first, second), types=types, inputs=("x",), outputs=("twice",),
        constants=constants,
    )  # fmt: skip


def _execute(backend: ComputeBackend, signature: StepSignature, params: Sequence[np.ndarray | None]) -> Any:
    """Run one call; an error that neither the port nor the backend's failure modes name is a defect."""

    async def awaited() -> Any:
        return await backend.execute(signature, params)

    try:
        return asyncio.run(awaited())
    except PlumblineError as error:
        declared = PORT_REFUSALS | {mode.code for mode in backend.failure_modes}
        if error.code not in declared:
            raise AssertionError(f"{error.code} is not among the failure modes") from error
        raise


def _capability(backend: ComputeBackend, signature: StepSignature) -> OperationCapability:
    known: Mapping[str, OperationCapability] = {c.operation: c for c in backend.get_capabilities()}
    return known[signature.operation]


def _compare(
    signature: StepSignature,
    params: Sequence[np.ndarray | None],
    outputs: Sequence[np.ndarray],
    capability: OperationCapability,
) -> None:
    expected = get_operation(signature.operation).reference(list(params), signature.attributes)
    precision = Precision(relative=capability.relative, absolute=capability.absolute)
    for type_, ours, reference in zip(signature.outputs, outputs, expected, strict=True):
        relative, absolute = tolerance(type_.dtype, precision) if type_.dtype.is_float else (0.0, 0.0)
        assert (ours.shape, ours.dtype) == (np.shape(reference), type_.dtype.numpy), signature
        np.testing.assert_allclose(
            ours, reference, rtol=relative, atol=absolute, equal_nan=True, err_msg=str(signature)
        )


def _bits(outputs: Sequence[np.ndarray]) -> tuple[bytes, ...]:
    return tuple(array.tobytes() for array in outputs)


def _array(array: np.ndarray | None) -> np.ndarray:
    if array is None:
        raise TypeError("the first operand of a sample is there")
    return array
