"""The planner on the shapes of real networks: how close it gets to the lower bound, and how fast."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from plumbline.compiler.planning.lifetimes import Buffer, LifetimeAnalyser, StepAccess, workspace_buffers
from plumbline.compiler.planning.memory import MemoryPlanner
from plumbline.compiler.planning.memory_check import verify_plan


class Network:
    """Builds a program step by step; `op` returns the name of the value that it makes."""

    def __init__(self, input_bytes: int) -> None:
        self.steps: list[StepAccess] = []
        self.sizes = {"input": input_bytes}

    def op(self, size_bytes: int, *reads: str, workspace_bytes: int = 0) -> str:
        name = f"v{len(self.steps)}"
        self.sizes[name] = size_bytes
        step = StepAccess(
            name=f"s{len(self.steps)}", reads=reads, writes=(name,), workspace_bytes=workspace_bytes
        )
        self.steps.append(step)
        return name

    def buffers(self, output: str) -> list[Buffer]:
        lives = LifetimeAnalyser().analyse(self.steps, inputs=["input"], outputs=[output])
        return [
            *(Buffer(name=n, size_bytes=self.sizes[n], first=t.first, last=t.last) for n, t in lives.items()),
            *workspace_buffers(self.steps),
        ]


def chain(scale: int = 1) -> list[Buffer]:
    net = Network(150528 * 4)
    at = "input"
    for layer in range(30 * scale):
        at = net.op(
            4 * (200704 >> (layer // (6 * scale))) * (1 + layer % 3), at, workspace_bytes=4096 * (layer % 5)
        )
    return net.buffers(at)


def residual(scale: int = 1) -> list[Buffer]:
    net = Network(150528 * 4)
    at = net.op(64 * 112 * 112 * 4, "input")
    at = net.op(64 * 56 * 56 * 4, at)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        area, width = (56 >> stage) ** 2, 64 << stage
        for block in range(blocks * scale):
            narrow = net.op(area * width * 4, at)
            middle = net.op(area * width * 4, narrow, workspace_bytes=65536)
            wide = net.op(area * width * 16, middle)
            skip = net.op(area * width * 16, at) if block == 0 else at
            at = net.op(area * width * 16, wide, skip)
    return net.buffers(net.op(4000, at))


def dense(scale: int = 1) -> list[Buffer]:
    net = Network(150528 * 4)
    at = net.op(64 * 56 * 56 * 4, "input")
    width = 64
    for stage, layers in enumerate((6, 12, 24, 16)):
        area = (56 >> stage) ** 2 * 4
        for _ in range(layers * scale):
            normal = net.op(area * width, at)
            narrow = net.op(area * 128, normal)
            grown = net.op(area * 32, narrow)
            width += 32
            at = net.op(area * width, at, grown)
        width //= 2
        at = net.op(area * width, at)
        at = net.op(area * width // 4, at)
    return net.buffers(at)


def u_net(scale: int = 1) -> list[Buffer]:
    net = Network(256 * 256 * 3 * 4)
    at, skips = "input", []
    for level in range(5):
        for _ in range(2 * scale):
            at = net.op((256 >> level) ** 2 * (32 << level) * 4, at)
        skips.append(at)
        at = net.op((128 >> level) ** 2 * (32 << level) * 4, at)
    for level in reversed(range(5)):
        size = (256 >> level) ** 2 * (32 << level) * 4
        up = net.op(size, at)
        at = net.op(2 * size, up, skips[level])
        for _ in range(2 * scale):
            at = net.op(size, at)
    return net.buffers(at)


def inception(scale: int = 1) -> list[Buffer]:
    net = Network(150528 * 4)
    at = net.op(64 * 112 * 112 * 4, "input")
    at = net.op(192 * 28 * 28 * 4, at)
    for block in range(9 * scale):
        area = 28 * 28 * 4 if block < 3 * scale else 14 * 14 * 4
        one = net.op(area * 64, at)
        three = net.op(area * 128, net.op(area * 96, at))
        five = net.op(area * 32, net.op(area * 16, at))
        pool = net.op(area * 32, net.op(area * 192, at))
        at = net.op(area * 256, one, three, five, pool)
    return net.buffers(at)


def transformer(scale: int = 1) -> list[Buffer]:
    net = Network(128 * 4)
    tokens, width = 128, 384
    row = tokens * width * 4
    at = net.op(row, "input")
    mask = net.op(tokens * tokens * 4, "input")
    for _ in range(6 * scale):
        q, k, v = net.op(row, at), net.op(row, at), net.op(row, at)
        scores = net.op(12 * tokens * tokens * 4, q, k)
        weights = net.op(12 * tokens * tokens * 4, scores, mask)
        mixed = net.op(row, weights, v)
        at = net.op(row, net.op(row, mixed), at)
        hidden = net.op(4 * row, at)
        at = net.op(row, net.op(row, net.op(4 * row, hidden)), at)
    return net.buffers(at)


MODELS: list[Callable[..., list[Buffer]]] = [chain, residual, dense, u_net, inception, transformer]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_peak_on_a_model_shape_is_within_five_percent_of_the_lower_bound(
    model: Callable[..., list[Buffer]],
) -> None:
    """L2-17, L2-18."""
    buffers = model()
    plan = MemoryPlanner().plan(buffers)
    verify_plan(plan, buffers)
    assert plan.lower_bound_bytes <= plan.peak_bytes <= 1.05 * plan.lower_bound_bytes
    assert plan.peak_bytes < plan.naive_bytes


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_five_thousand_tensors_are_planned_in_a_bounded_number_of_looks(
    model: Callable[..., list[Buffer]],
) -> None:
    """L2-31. The bound is on work; the time of this thread is a wide net for accidents."""
    per_scale = len(model(2)) - len(model(1))
    buffers = model(5000 // per_scale + 1)
    assert len(buffers) >= 4900
    started = time.thread_time()
    plan = MemoryPlanner().plan(buffers)
    elapsed_s = time.thread_time() - started
    verify_plan(plan, buffers)
    assert plan.peak_bytes <= 1.05 * plan.lower_bound_bytes
    assert elapsed_s < 20


def test_random_lifetimes_stay_near_the_lower_bound() -> None:
    """L2-17: harder than any network; the excess is bounded loosely so that a broken heuristic shows."""
    for seed in range(20):
        rng = random.Random(seed)
        buffers = []
        for index in range(150):
            first = rng.randrange(100)
            size, length = int(2 ** rng.uniform(8, 18)), int(rng.expovariate(0.15))
            buffers.append(
                Buffer(name=f"b{index}", size_bytes=size, first=first, last=min(first + length, 99))
            )
        plan = MemoryPlanner().plan(buffers)
        verify_plan(plan, buffers)
        assert plan.peak_bytes <= 1.15 * plan.lower_bound_bytes
