"""The promise about bits: one request gives the same bytes on any number of threads, in any company.

Every comparison is of bytes. Runs start in an arena filled with NaN: nothing is inherited from earlier.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

import plumbline
from plumbline.engine.model import Model
from plumbline.testing.bits import (
    Network,
    assert_same_bits,
    compile_network,
    random_attention_network,
    random_image_network,
    random_map_network,
    random_perceptron,
    random_recurrent_network,
    run_poisoned,
)
from plumbline.testing.bits.variants import splitting_everything

Maker = Callable[..., Network]
CASES: tuple[tuple[Maker, int], ...] = (
    *((random_image_network, seed) for seed in (1, 3, 8, 14)),
    (random_perceptron, 1),
    (random_map_network, 0),
    (random_attention_network, 0),
    *((random_recurrent_network, seed) for seed in (1, 2)),
)
BATCH = 6
Outputs = Mapping[str, np.ndarray]


def name_of(case: tuple[Maker, int]) -> str:
    return f"{case[0].__name__}-{case[1]}"


@pytest.fixture(params=CASES, ids=name_of, scope="module")
def network(request: pytest.FixtureRequest) -> Network:
    """A network whose batch is the symbol `batch`."""
    make, seed = request.param
    return make(seed, batch=BATCH, is_batched=True)


@pytest.fixture(scope="module")
def one_thread(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """The network on one thread with the bound that fits exactly."""
    with compile_network(network, tmp_path_factory.mktemp("one")) as model:
        yield model


@pytest.fixture(scope="module")
def first_bits(network: Network, one_thread: Model) -> Outputs:
    """What every other way of running must give."""
    return run_poisoned(one_thread, network.inputs)


def rows_of(outputs: Outputs, rows: Sequence[int]) -> dict[str, np.ndarray]:
    return {name: array[list(rows)] for name, array in outputs.items()}


@pytest.mark.parametrize("threads", [2, 4])
def test_every_step_split_over_threads_gives_the_bits_of_one_thread_every_time(
    network: Network, first_bits: Outputs, threads: int, tmp_path: Path
) -> None:
    """L1-05: neither the number of threads nor who claims which tile changes a bit."""
    with splitting_everything():
        model = compile_network(network, tmp_path / "many", threads=threads)
    with model:
        assert model.manifest.threads == threads
        for _ in range(5):
            assert_same_bits(first_bits, run_poisoned(model, network.inputs), f"{threads} threads")


def test_a_row_alone_gives_the_bits_of_the_row_in_a_batch(
    network: Network, one_thread: Model, first_bits: Outputs
) -> None:
    for rows in ([0], [2], [BATCH - 1], [4, 1, 3], [2, 2]):
        bits = run_poisoned(one_thread, network.select(rows))
        assert_same_bits(rows_of(first_bits, rows), bits, f"rows {rows}")


def test_the_declared_bound_changes_no_bit(network: Network, first_bits: Outputs, tmp_path: Path) -> None:
    for bound in (1, 3, 8, 64):
        rows = list(range(min(bound, BATCH)))
        with compile_network(network, tmp_path / str(bound), bound=bound) as model:
            bits = run_poisoned(model, network.select(rows))
        assert_same_bits(rows_of(first_bits, rows), bits, f"bound {bound}")


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_one_symbolic_artifact_gives_the_bits_of_builds_for_each_extent(
    case: tuple[Maker, int], tmp_path: Path
) -> None:
    """L1-07: an extent that is known at build is an option of speed, not of results."""
    make, seed = case
    network = make(seed, batch=BATCH, is_batched=True)
    with compile_network(network, tmp_path / "symbolic", bound=8) as symbolic:
        for extent in (1, 5):
            special = make(seed, batch=extent)
            inputs = network.select(range(extent))
            with compile_network(special, tmp_path / str(extent)) as specialised:
                theirs = run_poisoned(specialised, inputs)
            assert_same_bits(run_poisoned(symbolic, inputs), theirs, f"extent {extent}")


def test_what_the_arena_held_before_a_run_changes_no_bit(
    network: Network, one_thread: Model, first_bits: Outputs
) -> None:
    for byte in (0x00, 0x7F, 0xA5, 0xFF):
        assert_same_bits(first_bits, run_poisoned(one_thread, network.inputs, byte), f"arena of {byte:#x}")


DIGEST = """
import hashlib, json, sys
from pathlib import Path
from plumbline.testing import bits
make, seed, folder = getattr(bits, sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
network = make(seed, batch=3, is_batched=True)
with bits.compile_network(network, folder) as model:
    outputs = bits.run_poisoned(model, network.inputs)
digests = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in outputs.items()}
for file in ("program.json", "weights.bin", "code.o"):
    digests[file] = hashlib.sha256((folder / file).read_bytes()).hexdigest()
print(json.dumps(digests, sort_keys=True))
"""


@pytest.mark.parametrize("case", CASES[::3], ids=name_of)
def test_processes_with_other_hash_seeds_make_the_same_program_weights_code_and_outputs(
    case: tuple[Maker, int], tmp_path: Path
) -> None:
    """L2-15, L2-20: nothing depends on the order of a set."""
    source = str(Path(plumbline.__file__).parents[1])
    found = set()
    for seed in ("1", "77777"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": source}
        command = [sys.executable, "-c", DIGEST, case[0].__name__, str(case[1]), str(tmp_path / seed)]
        answer = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert answer.returncode == 0, answer.stderr
        found.add(answer.stdout)
    assert len(found) == 1, found
