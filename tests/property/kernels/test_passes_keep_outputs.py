"""After every pass a random network still computes what it computed, for each target, by the references."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from plumbline.compiler.graph.verify import verify
from plumbline.compiler.importers.onnx import ImportOptions, import_onnx
from plumbline.compiler.passes.pipeline import PASSES
from plumbline.compiler.passes.report import PassReport
from plumbline.kernels.emit.target import TARGETS, TargetDescription
from plumbline.testing.bits import (
    Network,
    random_attention_network,
    random_image_network,
    random_map_network,
    random_perceptron,
    random_recurrent_network,
)
from plumbline.testing.interpreter import evaluate_graph

FAST_PATH = {
    "fold_channel_scales", "sink_channel_shuffles", "lay_out_images", "pack_matrix_products", "fuse_maps",
    "recognise_activations", "fuse_epilogues", "assign_halos",
}  # fmt: skip
EVERY_TARGET = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


def verify_passes(network: Network, target: TargetDescription) -> set[str]:
    """Names of the passes that changed the graph."""
    symbols = {"batch": 8} if network.is_batched else {}
    graph = import_onnx(network.model, ImportOptions(symbols=symbols))
    expected = evaluate_graph(graph, network.inputs)
    report, changes = PassReport(), set()
    for rewrite in PASSES:
        changed = rewrite(graph, target, report)
        if changed is graph:
            continue
        verify(changed)
        found = evaluate_graph(changed, network.inputs)
        assert found.keys() == expected.keys()
        for name, wanted in expected.items():
            largest = float(np.max(np.abs(wanted), initial=1.0))
            what = f"{network.name} {name} after {rewrite.__name__}"
            np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=1e-5 * largest, err_msg=what)
        graph = changed
        changes.add(rewrite.__name__)
    return changes


@EVERY_TARGET
def test_no_pass_changes_the_outputs_of_random_image_networks(target: TargetDescription) -> None:
    """L2-04. The control: among these networks every pass of the fast path finds work."""
    changes: set[str] = set()
    for seed in range(30):
        changes |= verify_passes(random_image_network(seed, is_batched=seed % 2 == 1), target)
    assert changes >= FAST_PATH


@EVERY_TARGET
@pytest.mark.parametrize(
    "make", [random_perceptron, random_attention_network, random_recurrent_network, random_map_network]
)
@pytest.mark.parametrize("seed", range(2))
def test_no_pass_changes_the_outputs_of_a_network_over_rows(
    seed: int, make: Callable[..., Network], target: TargetDescription
) -> None:
    verify_passes(make(seed, is_batched=True), target)
