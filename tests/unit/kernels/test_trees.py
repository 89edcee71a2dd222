"""Tree ensembles against their numpy twin (L1-02..L1-05)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plumbline.kernels.contract import AttributeRefused, DTypeRefused, ShapeRefused
from plumbline.kernels.trees.contract import CONTRACTS
from plumbline.testing.kernels import run_native, verify_operation

(TREES,) = CONTRACTS
rng = np.random.default_rng(31)


def forest(trees: int, depth: int, **changes: Any) -> dict[str, Any]:
    """Full random trees over four features and three targets, leaves with zero to two entries."""
    inner = (1 << depth) - 1
    modes = [str(m) for m in rng.choice(["le", "lt", "ge", "gt", "eq", "ne", "member"], trees * inner)]
    on_true, on_false, leaves = [], [], 0
    for tree in range(trees):
        for node in range(inner):
            for side, children in ((1, on_true), (2, on_false)):
                child = 2 * node + side
                if child < inner:
                    children.append(tree * inner + child)
                else:
                    children.append(-1 - leaves)
                    leaves += 1
    counts = rng.integers(0, 3, leaves)
    entries = int(counts.sum())
    document: dict[str, Any] = {
        "roots": tuple(range(0, trees * inner, inner)), "modes": tuple(modes),
        "features": tuple(map(int, rng.integers(0, 4, len(modes)))),
        "splits": tuple(map(float, rng.integers(-2, 3, len(modes)))),
        "on_true": tuple(on_true), "on_false": tuple(on_false),
        "missing_true": tuple(map(bool, rng.integers(0, 2, len(modes)))),
        "members": tuple((1.0, -2.0) for m in modes if m == "member"),
        "leaf_starts": (0, *map(int, counts.cumsum())),
        "entry_targets": tuple(map(int, rng.integers(0, 3, entries))),
        "entry_weights": tuple(map(float, rng.standard_normal(entries))),
        "targets": 3, "aggregate": "sum", "base": (),
    }  # fmt: skip
    return {**document, **changes}


@pytest.mark.parametrize("aggregate", ["sum", "average", "min", "max"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_forests_agree_with_a_walk_in_python(aggregate: str, dtype: str) -> None:
    x = rng.integers(-3, 4, (20, 4)).astype(dtype)
    x[3, 1] = x[7, 0] = np.nan
    for base in ((), (0.5, -1.0, 2.0)):
        verify_operation(TREES, [x], forest(5, 3, aggregate=aggregate, base=base), symbolic={(0, 0): "n"})


def test_single_leaf_trees_need_no_decision() -> None:
    alone = forest(1, 1, roots=(-1, -2), aggregate="sum")
    verify_operation(TREES, [np.zeros((3, 4), np.float32)], alone)


def test_forests_that_do_not_fit_are_refused() -> None:
    x, good = np.zeros((2, 4), np.float32), forest(2, 2)
    with pytest.raises(AttributeRefused):
        run_native(TREES, [x], {**good, "on_true": (0,) * 6})
    with pytest.raises(AttributeRefused):
        run_native(TREES, [x], {**good, "on_true": (99,) * 6})
    with pytest.raises(AttributeRefused):
        run_native(TREES, [x], {**good, "aggregate": "median"})
    with pytest.raises(ShapeRefused):
        run_native(TREES, [x], {**good, "features": (7,) * 6})
    with pytest.raises(DTypeRefused):
        run_native(TREES, [x.astype(np.int32)], good)
