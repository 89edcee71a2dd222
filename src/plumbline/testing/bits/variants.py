"""The ways of running a network that must give the same bits, and a peer that knows the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np

from plumbline.compiler.importers.onnx import ImportOptions, import_onnx
from plumbline.compiler.lowering import segment
from plumbline.compiler.planning import threads as planning_threads
from plumbline.engine.model import Model
from plumbline.kernels.emit.target import TargetDescription
from plumbline.testing.bits.network import BATCH, Network
from plumbline.testing.models import open_model

__all__ = ["assert_same_bits", "compile_network", "run_poisoned", "run_with_peer", "splitting_everything"]

POISON = 0xFF
"""Every float of four such bytes is NaN, every integer -1."""


def compile_network(
    network: Network,
    folder: Path,
    *,
    threads: int = 1,
    bound: int | None = None,
    target: TargetDescription | None = None,
) -> Model:
    """Compile a network into an empty folder.

    Args:
        network: with a symbolic or a fixed batch.
        folder: made if it is missing; must outlive the model.
        threads: threads of a context.
        bound: declared bound of the batch; default: the rows of the inputs.
        target: default the widest of this machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    symbols = {BATCH: bound or network.rows} if network.is_batched else {}
    graph = import_onnx(network.model, ImportOptions(symbols=symbols))
    return open_model(graph, folder, threads=threads, target=target)


@contextmanager
def splitting_everything() -> Iterator[None]:
    """While models are compiled here, every step is split into tiles and small models use all their threads.

    Otherwise small networks would run on one thread and say nothing about many.
    """
    with (
        mock.patch.object(planning_threads, "SINGLE_THREAD_COST", 0.0),
        mock.patch.object(segment, "TILE_COST", 1.0),
    ):
        yield


def run_poisoned(model: Model, inputs: Mapping[str, np.ndarray], byte: int = POISON) -> dict[str, np.ndarray]:
    """Run in a new context whose whole arena, workspace included, held `byte` before the inputs came."""
    with model.context() as context:
        names = {b.name: b for b in model.manifest.inputs}
        symbols = {
            str(d): extent
            for name, b in names.items()
            for d, extent in zip(b.shape, inputs[name].shape, strict=True)
            if not isinstance(d, int)
        }
        context.set_symbols(symbols)
        context.fill_arena(byte)
        for name, array in inputs.items():
            context.inputs[name][...] = array
        context.run()
        return {name: view.copy() for name, view in context.outputs.items()}


def assert_same_bits(ours: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], what: str) -> None:
    """Compare outputs byte for byte.

    Raises:
        AssertionError: naming the output and the first element that differs.
    """
    assert ours.keys() == other.keys(), what
    for name, array in ours.items():
        twin = other[name]
        assert (array.dtype, array.shape) == (twin.dtype, twin.shape), f"{what}: {name}"
        if array.tobytes() != twin.tobytes():
            mine, theirs = (np.ascontiguousarray(a).reshape(-1).view(np.uint32) for a in (array, twin))
            place = int(np.flatnonzero(mine != theirs)[0])
            values = f"{array.reshape(-1)[place]} or {twin.reshape(-1)[place]}"
            count = int((mine != theirs).sum())
            raise AssertionError(f"{what}: {name}[{place}] is {values}; {count} elements differ")


def run_with_peer(network: Network) -> dict[str, np.ndarray]:
    """Outputs of ONNX Runtime on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(network.model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(network.inputs)), strict=True))
