"""Threads on a machine that others use too: two models at once, a busy core, other Python threads, forks."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from plumbline.engine.model import Model
from plumbline.hardware.handles import HandleForkedError
from plumbline.product.bench.busy_core import BusyCore
from plumbline.testing.bits import (
    Network,
    NetworkWriter,
    assert_same_bits,
    compile_network,
    random_attention_network,
    random_image_network,
    random_perceptron,
    run_poisoned,
)
from plumbline.testing.bits.variants import splitting_everything

DEADLINE_S = 60.0


def large_perceptron(layers: int = 12, rows: int = 384, width: int = 1024) -> Network:
    """Some gigaflops: one run lasts tens of milliseconds on any machine."""
    rng = np.random.default_rng(0)
    writer = NetworkWriter("large", rng)
    name, weights = "x", writer.weights(width, width)
    for _ in range(layers):
        name = writer.node("Relu", writer.node("MatMul", name, weights))
    x = rng.standard_normal((rows, width)).astype(np.float32)
    return writer.finish({"x": x}, {name: 2}, is_batched=False)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Network, Model]]:
    network = large_perceptron()
    with compile_network(network, tmp_path_factory.mktemp("large"), threads=2) as model:
        yield network, model


def run_together(job: Callable[[int], None], count: int) -> None:
    """Run `job(0)` .. `job(count - 1)` in threads of their own; raises what one of them raised."""
    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(job, number) for number in range(count)]:
            future.result(DEADLINE_S)


def test_two_models_run_at_once_on_two_streams_with_their_own_bits(tmp_path: Path) -> None:
    networks = (random_image_network(8), random_attention_network(0))
    with splitting_everything():
        models = [compile_network(n, tmp_path / n.name, threads=2) for n in networks]
    expected = [run_poisoned(m, n.inputs) for m, n in zip(models, networks, strict=True)]
    start = threading.Barrier(2)

    def repeat(index: int) -> None:
        start.wait(DEADLINE_S)
        for _ in range(200):
            outputs = models[index].run(networks[index].inputs)
            assert_same_bits(expected[index], outputs, networks[index].name)

    run_together(repeat, 2)
    for model in models:
        model.close()


def test_callers_of_one_model_queue_for_its_context_and_never_mix(tmp_path: Path) -> None:
    network = random_perceptron(1, batch=8, is_batched=True)
    with compile_network(network, tmp_path) as model:
        expected = run_poisoned(model, network.inputs)

        def repeat(row: int) -> None:
            mine = {name: array[row : row + 1] for name, array in expected.items()}
            for _ in range(300):
                assert_same_bits(mine, model.run(network.select([row])), f"row {row}")

        run_together(repeat, 6)


def test_the_interpreter_runs_other_threads_during_one_run(large: tuple[Network, Model]) -> None:
    """One native call holds the interpreter lock or it does not: a clock that is read beside it tells.

    It is read in the middle half of a run: around a run that holds the lock others get it too. A busy machine
    may keep the clock out for a whole run, so one of many runs has to show it.
    """
    network, model = large
    moments: deque[int] = deque(maxlen=100_000)
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            now_ns = time.monotonic_ns()
            if not moments or now_ns - moments[-1] > 50_000:
                moments.append(now_ns)

    with model.context() as context:
        context.inputs["x"][...] = network.inputs["x"]
        context.run()
        looking = threading.Thread(target=look)
        looking.start()
        inside = attempts = 0
        while inside < 10 and attempts < 50:
            attempts += 1
            began = time.monotonic_ns()
            context.run()
            quarter = (time.monotonic_ns() - began) // 4
            inside = sum(began + quarter < moment < began + 3 * quarter for moment in tuple(moments))
        is_over.set()
        looking.join(DEADLINE_S)
    assert inside >= 10


def test_a_busy_process_on_another_core_changes_no_bit(large: tuple[Network, Model], tmp_path: Path) -> None:
    network, model = large
    small = random_image_network(14)
    with splitting_everything():
        crowded = compile_network(small, tmp_path, threads=4)
    quiet, quiet_small = model.run(network.inputs), crowded.run(small.inputs)
    with BusyCore(), BusyCore():
        for _ in range(5):
            assert_same_bits(quiet, model.run(network.inputs), "large beside two busy processes")
        for _ in range(100):
            assert_same_bits(quiet_small, crowded.run(small.inputs), "small beside two busy processes")
    crowded.close()


@pytest.mark.parametrize("threads", [2, 8])
def test_a_model_under_fifty_microseconds_uses_one_thread(threads: int, tmp_path: Path) -> None:
    with compile_network(random_perceptron(1), tmp_path, threads=threads) as model:
        assert model.manifest.threads == 1


def test_a_large_model_uses_the_threads_that_were_asked_for(large: tuple[Network, Model]) -> None:
    assert large[1].manifest.threads == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_is_refused_and_the_parent_goes_on(
    large: tuple[Network, Model], tmp_path: Path
) -> None:
    """A child has the memory of the parent but none of its threads: a run would wait for ever."""
    network, model = large
    expected = model.run(network.inputs)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            model.run(network.inputs)
        except HandleForkedError:
            code = 0
        finally:
            os._exit(code)
    deadline = time.monotonic() + DEADLINE_S
    status: int | None = None
    while status is None and time.monotonic() < deadline:
        ended, found = os.waitpid(child, os.WNOHANG)
        status = os.waitstatus_to_exitcode(found) if ended else None
        time.sleep(0.01)
    if status is None:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert status == 0
    assert_same_bits(expected, model.run(network.inputs), "the parent after a fork")
