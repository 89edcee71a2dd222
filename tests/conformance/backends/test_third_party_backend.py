"""A third party's toy backend passes the published suite unchanged, a broken one does not (L1-13, X-69)."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from plumbline.contracts.tensors import DType
from plumbline.execution.backend import ComputeBackend, OperationCapability, OperationResult
from plumbline.testing.backends import BackendConformance

from .abacus import AbacusBackend


class TestAbacusBackend(BackendConformance):
    def make_backend(self) -> ComputeBackend:
        return AbacusBackend()


class Inexact(AbacusBackend):
    """Claims to be exact and is not."""

    def compute(self, operation, *operands):
        return super().compute(operation, *operands) * np.float32(1 + 1e-6)


class Scribbler(AbacusBackend):
    """Computes in the caller's array."""

    def compute(self, operation, *operands):
        operands[0][...] = super().compute(operation, *operands)
        return operands[0].copy()


class Helpful(AbacusBackend):
    """Quietly answers for what it does not have."""

    async def execute(self, operation, params):
        if self.find_refusal(operation) is None:
            return await super().execute(operation, params)
        return OperationResult(outputs=(params[0],), backend=self.name, duration_ns=0)


class Boaster(AbacusBackend):
    """Refuses what it lists."""

    def get_capabilities(self):
        more = OperationCapability(operation="an_operation_nobody_knows", dtypes=frozenset({DType.FLOAT32}))
        return [*super().get_capabilities(), more]


class Immortal(AbacusBackend):
    """Goes on after its end."""

    def verify_open(self):
        return None


class Careless(AbacusBackend):
    """Fails in ways that it did not announce."""

    def compute(self, operation, *operands):
        raise ArithmeticError("a bead fell off")


class Bottomless(AbacusBackend):
    """States a limit and ignores it."""

    async def execute(self, operation, params):
        self.verify_open()
        if self.find_refusal(operation) is None and sum(p.nbytes for p in params) > self.limits.memory_bytes:
            return OperationResult(outputs=(params[0],), backend=self.name, duration_ns=0)
        return await super().execute(operation, params)


FAULTS = {
    Inexact: "test_results_lie_within_the_declared_precision",
    Scribbler: "test_operands_are_not_changed",
    Helpful: "test_an_operation_that_it_does_not_have_is_refused_by_name",
    Boaster: "test_every_declared_operation_is_known_to_the_runtime",
    Immortal: "test_a_closed_backend_says_so",
    Careless: "test_results_lie_within_the_declared_precision",
    Bottomless: "test_more_than_its_memory_is_refused_before_anything_runs",
}


@pytest.mark.parametrize(("backend", "test"), FAULTS.items(), ids=[b.__name__ for b in FAULTS])
def test_a_backend_that_breaks_a_promise_fails_the_suite(backend, test):
    class Suite(BackendConformance):
        def make_backend(self) -> ComputeBackend:
            return backend()

    with pytest.raises((AssertionError, ArithmeticError, pytest.fail.Exception)):
        getattr(Suite(), test)()


def test_the_toy_backend_answers_a_call():
    from plumbline.testing.backends import call_of

    signature, params = call_of("add", np.float32([1, 2]), np.float32([3, 4]))
    result = asyncio.run(AbacusBackend().execute(signature, params))
    assert result.outputs[0].tolist() == [4, 6]
