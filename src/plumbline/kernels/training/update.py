"""Optimiser steps `adagrad`, `adam` and `momentum`: one tensor of parameters, element by element.

Operands: the learning rate and the count of updates so far (scalars), the parameters, their gradient, and the
states that the method keeps. Results: new parameters, then new states. Scalars are computed in float64 before
the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.contracts.dims import ceildiv
from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import AttributeRefused, DTypeRefused, Inference, KernelCall, Work
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Value
from plumbline.kernels.emit.target import TargetDescription

__all__ = ["METHODS", "Method", "UpdateKernel", "infer_update", "reference_update"]

RUN = 1024
"""Elements of one unit."""
Params = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One optimiser.

    Attributes:
        states: tensors that it keeps.
        defaults: attributes and their defaults.
        rate: effective rate in float64 from the rate, the count and the attributes.
        step: new parameters and states from rate, regularised gradient, parameters, states, whether this is
        the
            first update, and the attributes; all vectors.
        reference: the same in numpy.
    """

    states: int
    defaults: Params
    rate: Callable[[FunctionBuilder, Value, Value, Params], Value]
    step: Callable[[FunctionBuilder, Value, Value, Value, list[Value], Value, Params], Sequence[Value]]
    reference: Callable[
        [float, float, np.ndarray, np.ndarray, list[np.ndarray], Params], Sequence[np.ndarray]
    ]


def _adagrad_rate(b: FunctionBuilder, rate: Value, count: Value, params: Params) -> Value:
    return rate / (count * float(params["decay_factor"]) + 1.0)


def _adagrad_step(
    b: FunctionBuilder,
    rate: Value,
    gradient: Value,
    x: Value,
    states: list[Value],
    first: Value,
    params: Params,
) -> Sequence[Value]:
    squares = gradient * gradient + states[0]
    return x - rate * gradient / (b.sqrt(squares) + float(params["epsilon"])), squares


def _reference_adagrad(
    rate: float, count: float, gradient: np.ndarray, x: np.ndarray, states: list[np.ndarray], params: Params
) -> Sequence[np.ndarray]:
    squares = states[0] + gradient * gradient
    effective = rate / (1.0 + count * params["decay_factor"])
    return x - effective * gradient / (np.sqrt(squares) + params["epsilon"]), squares


def _adam_rate(b: FunctionBuilder, rate: Value, count: Value, params: Params) -> Value:
    alpha, beta = (b.const(DType.FLOAT64, float(params[name])) for name in ("alpha", "beta"))
    past = b.call_external("pow", beta, count), b.call_external("pow", alpha, count)
    corrected = rate * b.sqrt(1.0 - past[0]) / (1.0 - past[1])
    return b.select(count > 0.0, corrected, rate)


def _adam_step(
    b: FunctionBuilder,
    rate: Value,
    gradient: Value,
    x: Value,
    states: list[Value],
    first: Value,
    params: Params,
) -> Sequence[Value]:
    alpha, beta = float(params["alpha"]), float(params["beta"])
    mean = states[0] * alpha + gradient * (1.0 - alpha)
    square = states[1] * beta + gradient * gradient * (1.0 - beta)
    moved = x - rate * mean / (b.sqrt(square) + float(params["epsilon"]))
    return moved * (1.0 - float(params["norm_coefficient_post"])), mean, square


def _reference_adam(
    rate: float, count: float, gradient: np.ndarray, x: np.ndarray, states: list[np.ndarray], params: Params
) -> Sequence[np.ndarray]:
    alpha, beta = params["alpha"], params["beta"]
    mean = alpha * states[0] + (1.0 - alpha) * gradient
    square = beta * states[1] + (1.0 - beta) * gradient * gradient
    effective = rate * np.sqrt(1.0 - beta**count) / (1.0 - alpha**count) if count > 0 else rate
    moved = x - effective * mean / (np.sqrt(square) + params["epsilon"])
    return (1.0 - params["norm_coefficient_post"]) * moved, mean, square


def _momentum_step(
    b: FunctionBuilder,
    rate: Value,
    gradient: Value,
    x: Value,
    states: list[Value],
    first: Value,
    params: Params,
) -> Sequence[Value]:
    alpha = float(params["alpha"])
    scaled = b.select(first, gradient, gradient * float(params["beta"]))
    velocity = states[0] * alpha + scaled
    direction = gradient + velocity * alpha if params["mode"] == "nesterov" else velocity
    return x - rate * direction, velocity


def _reference_momentum(
    rate: float, count: float, gradient: np.ndarray, x: np.ndarray, states: list[np.ndarray], params: Params
) -> Sequence[np.ndarray]:
    beta = params["beta"] if count > 0 else 1.0
    velocity = params["alpha"] * states[0] + beta * gradient
    direction = gradient + params["alpha"] * velocity if params["mode"] == "nesterov" else velocity
    return x - rate * direction, velocity


METHODS: Mapping[str, Method] = {
    "adagrad": Method(
        states=1, defaults={"decay_factor": 0.0, "epsilon": 0.0, "norm_coefficient": 0.0}, rate=_adagrad_rate,
        step=_adagrad_step, reference=_reference_adagrad,
    ),
    "adam": Method(
        states=2, rate=_adam_rate, step=_adam_step, reference=_reference_adam,
        defaults={
            "alpha": 0.9, "beta": 0.999, "epsilon": 0.0, "norm_coefficient": 0.0, "norm_coefficient_post": 0.0
        },
    ),
    "momentum": Method(
        states=1, rate=lambda b, rate, count, params: rate, step=_momentum_step,
        reference=_reference_momentum,
        defaults={"alpha": 0.9, "beta": 1.0, "mode": "standard", "norm_coefficient": 0.0},
    ),
}  # fmt: skip


def _params(operation: str, attributes: Params) -> Params:
    return {**METHODS[operation].defaults, **attributes}


def infer_update(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of an optimiser step."""
    method = METHODS[inference.operation]
    rate, count, x = (inference.type(i) for i in range(3))
    if x.dtype not in (DType.FLOAT32, DType.FLOAT64) or rate.dtype not in (DType.FLOAT32, DType.FLOAT64):
        raise DTypeRefused(
            operation=inference.operation, dtype=f"{rate.dtype}, {x.dtype}", needed="float32 or float64"
        )
    inference.require(rate.elements == 1 and count.elements == 1, "rate and count are scalars")
    inference.require(count.dtype is DType.INT64, f"the count is int64, not {count.dtype}")
    for position in range(3, 4 + method.states):
        fits = inference.type(position) == x
        inference.require(fits, f"input {position} is {inference.type(position)}, not {x}")
    mode = inference.attributes.get("mode", "standard")
    if mode not in ("standard", "nesterov"):
        raise AttributeRefused(
            operation=inference.operation, attribute="mode", value=str(mode), reason="standard or nesterov"
        )
    return (x,) * (1 + method.states)


class UpdateKernel:
    """Native code of an optimiser step."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is `RUN` elements."""
        return Work(units=ceildiv(signature.outputs[0].elements, RUN), unit_cost=2.0 * RUN)

    def emit(self, call: KernelCall) -> None:
        """Scalars first, then vectors of elements."""
        b, operation = call.builder, call.signature.operation
        method, params = METHODS[operation], _params(operation, call.attributes)
        operands = [call.input(i) for i in range(2, 4 + method.states)]
        outputs = [call.output(i) for i in range(1 + method.states)]
        dtype = outputs[0].dtype
        rate = b.cast(call.input(0).load_flat(0), DType.FLOAT64)
        count = b.cast(call.input(1).load_flat(0), DType.FLOAT64)
        effective = b.cast(method.rate(b, rate, count, params), dtype)
        first, total = count <= 0.0, outputs[0].elements
        with b.range(call.begin, call.end) as run:
            start = run * RUN

            def body(i: Index, lanes: int, start: Index = start) -> None:
                x, gradient, *states = (t.load_flat(start + i, lanes=lanes) for t in operands)
                regular = x * float(params["norm_coefficient"]) + gradient
                results = method.step(b, b.splat(effective, lanes), regular, x, states, first, params)
                for result, output in zip(results, outputs, strict=True):
                    output.store_flat(result, start + i)

            b.vectorize(b.minimum(b.index(total) - start, RUN), call.target.lanes(dtype), body)


def reference_update(
    operation: str, inputs: Sequence[np.ndarray | None], attributes: Params
) -> tuple[np.ndarray, ...]:
    """The numpy twin of a method, in float64."""
    params = _params(operation, attributes)
    rate, count, x, gradient, *states = (np.asarray(a, np.float64) for a in inputs)
    regular = params["norm_coefficient"] * x + gradient
    results = METHODS[operation].reference(
        float(rate.ravel()[0]), float(count.ravel()[0]), regular, x, list(states), params
    )
    dtype = np.asarray(inputs[2]).dtype
    return tuple(np.asarray(r).astype(dtype) for r in results)
