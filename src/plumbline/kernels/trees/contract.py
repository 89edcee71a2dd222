"""Contract and numpy twin of `tree_ensemble`."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import OperationContract, Precision
from plumbline.kernels.rows import rows_first
from plumbline.kernels.trees.forest import Forest, forest_of
from plumbline.kernels.trees.kernel import TreeKernel, infer_trees

__all__ = ["CONTRACTS", "reference_trees"]


def reference_trees(
    inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]
) -> tuple[np.ndarray, ...]:
    """Walk every tree in Python; decisions in the type of the features, sums in float64."""
    x, forest = np.asarray(inputs[0]), forest_of(attributes)
    sets = iter(forest.members)
    members = [next(sets) if mode == "member" else () for mode in forest.modes]
    result = np.zeros((x.shape[0], forest.targets))
    for r, row in enumerate(x):
        found: list[list[float]] = [[] for _ in range(forest.targets)]
        for root in forest.roots:
            leaf = -1 - _walk(forest, row, root, members)
            for entry in range(forest.leaf_starts[leaf], forest.leaf_starts[leaf + 1]):
                found[forest.entry_targets[entry]].append(forest.entry_weights[entry])
        result[r] = [_aggregate(forest, weights) for weights in found]
    return ((result + (np.array(forest.base) if forest.base else 0.0)).astype(x.dtype),)


def _walk(forest: Forest, row: np.ndarray, node: int, members: Sequence[Sequence[float]]) -> int:
    while node >= 0:
        value, split = row[forest.features[node]], row.dtype.type(forest.splits[node])
        if forest.modes[node] == "member":
            holds = any(value == row.dtype.type(m) for m in members[node])
        else:
            holds = bool(getattr(operator, forest.modes[node])(value, split))
        holds = holds or (bool(np.isnan(value)) and forest.missing_true[node])
        node = forest.on_true[node] if holds else forest.on_false[node]
    return node


def _aggregate(forest: Forest, weights: Sequence[float]) -> float:
    if forest.aggregate in ("min", "max"):
        choose = min if forest.aggregate == "min" else max
        return choose(weights, default=0.0)
    return sum(weights) / (max(1, len(forest.roots)) if forest.aggregate == "average" else 1)


CONTRACTS = (
    OperationContract(
        name="tree_ensemble", infer=infer_trees, reference=reference_trees, kernel=TreeKernel(),
        precision=Precision(relative=2e-6, absolute=2e-6), rows=rows_first(0),
        dtypes=frozenset({DType.FLOAT32, DType.FLOAT64}),
    ),
)  # fmt: skip
