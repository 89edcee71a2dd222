"""Random small networks, compiled whole: ONNX Runtime's numbers, and no byte read that was not written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from plumbline.kernels.emit.target import AVX2, TargetDescription
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
    run_with_peer,
)
from plumbline.testing.models import widest_target

FAST_IMAGE_SEEDS = range(40)
SLOW_IMAGE_SEEDS = range(1000, 1600)
ROW_NETWORKS = (random_perceptron, random_attention_network, random_recurrent_network, random_map_network)


def verify_network(network: Network, folder: Path, target: TargetDescription | None = None) -> None:
    """Compile, run plainly and in an arena of NaN, and compare with the peer."""
    expected = run_with_peer(network)
    with compile_network(network, folder, target=target) as model:
        ours = model.run(network.inputs)
        assert_same_bits(ours, run_poisoned(model, network.inputs), f"{network.name} in an arena of NaN")
    assert ours.keys() == expected.keys()
    for name, wanted in expected.items():
        largest = float(np.max(np.abs(wanted), initial=1.0))
        np.testing.assert_allclose(
            ours[name], wanted, rtol=1e-3, atol=1e-4 * largest, err_msg=f"{network.name} {name}"
        )


@pytest.mark.parametrize("seed", FAST_IMAGE_SEEDS)
def test_a_random_image_network_gives_the_numbers_of_onnxruntime_and_reads_nothing_unwritten(
    seed: int, tmp_path: Path
) -> None:
    """Strides, pads, dilations, groups, odd channels, residuals, concatenations, shuffles, channel scales."""
    verify_network(random_image_network(seed), tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_a_random_network_of_wide_images_gives_the_numbers_of_onnxruntime(seed: int, tmp_path: Path) -> None:
    """Planes of several tiles and panels of several blocks."""
    verify_network(random_image_network(seed, is_wide=True), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SLOW_IMAGE_SEEDS)
def test_hundreds_of_random_image_networks_give_the_numbers_of_onnxruntime(seed: int, tmp_path: Path) -> None:
    """The peer's own shape inference refuses about one network in a thousand (pools that round up)."""
    network = random_image_network(seed)
    try:
        run_with_peer(network)
    except Fail as refusal:
        pytest.skip(f"onnxruntime refuses this network: {refusal}")
    verify_network(network, tmp_path)


@pytest.mark.parametrize("make", ROW_NETWORKS)
@pytest.mark.parametrize("seed", range(5))
def test_a_random_network_over_rows_gives_the_numbers_of_onnxruntime_and_reads_nothing_unwritten(
    make: Callable[[int], Network], seed: int, tmp_path: Path
) -> None:
    verify_network(make(seed), tmp_path)


@pytest.mark.skipif(widest_target().architecture != "x86_64", reason="AVX2 code runs on x86-64 only")
@pytest.mark.parametrize("seed", range(100, 112))
def test_a_random_image_network_compiled_for_avx2_gives_the_numbers_of_onnxruntime(
    seed: int, tmp_path: Path
) -> None:
    verify_network(random_image_network(seed), tmp_path, AVX2)


@pytest.mark.skipif(widest_target().architecture != "x86_64", reason="AVX2 code runs on x86-64 only")
@pytest.mark.parametrize("make", ROW_NETWORKS)
def test_a_random_network_over_rows_compiled_for_avx2_gives_the_numbers_of_onnxruntime(
    make: Callable[[int], Network], tmp_path: Path
) -> None:
    for seed in range(3):
        verify_network(make(seed + 50), tmp_path / str(seed), AVX2)
