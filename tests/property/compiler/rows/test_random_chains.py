"""Random chains of operators: whatever the proof accepts, a run bears out; both answers occur (L4-62)."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.graph import ExecutionGraph, TensorID
from plumbline.compiler.passes.pipeline import run_passes
from plumbline.compiler.rows import prove_rows
from plumbline.contracts.dims import Dim, free_symbols, mul, symbol
from plumbline.contracts.tensors import DType, TensorType
from plumbline.testing.models import open_model, widest_target

N, BOUND, CHAINS, LENGTH = symbol("N"), 5, 60, 4


class Chain:
    """One random graph in the making; `tensor` is its end."""

    def __init__(self, seed: int) -> None:
        self.choose = random.Random(seed)
        self.builder = GraphBuilder("chain", {"N": BOUND})
        self.tensor = self.builder.input("x", TensorType(DType.FLOAT32, (N, 6, 4)))

    @property
    def shape(self) -> tuple[Dim, ...]:
        """Shape of the end."""
        return self.builder.type_of(self.tensor).shape

    def axis(self) -> int:
        """Any axis."""
        return self.choose.randrange(len(self.shape))

    def add(self, operation: str, inputs: list[TensorID], **attributes: object) -> TensorID:
        """One result more."""
        return self.builder.add1(operation, inputs, attributes)

    def grow(self) -> None:
        """One random step."""
        self.tensor = self.choose.choice(STEPS)(self) or self.tensor

    def finish(self) -> ExecutionGraph:
        """Turn an axis with the rows to the front, so that more chains can be proved."""
        axes = [a for a, d in enumerate(self.shape) if "N" in free_symbols(d)]
        if axes:
            rest = [a for a in range(len(self.shape)) if a != axes[0]]
            self.tensor = self.add("transpose", [self.tensor], perm=(axes[0], *rest))
        self.builder.output("y", self.add("tanh", [self.tensor]))
        return self.builder.build()


def turn(c: Chain) -> TensorID:
    perm = list(range(len(c.shape)))
    c.choose.shuffle(perm)
    return c.add("transpose", [c.tensor], perm=tuple(perm))


def merge(c: Chain) -> TensorID | None:
    if len(c.shape) < 2:
        return None
    a = c.choose.randrange(len(c.shape) - 1)
    shape = (*c.shape[:a], mul(c.shape[a], c.shape[a + 1]), *c.shape[a + 2 :])
    return c.add("reshape", [c.tensor], shape=shape)


def recut(c: Chain) -> TensorID:
    shape = list(c.shape)
    c.choose.shuffle(shape)
    return c.add("reshape", [c.tensor], shape=tuple(shape))


def halve(c: Chain) -> TensorID | None:
    a = c.axis()
    extent = c.shape[a]
    if isinstance(extent, int) and extent % 2 == 0:
        return c.add("reshape", [c.tensor], shape=(*c.shape[:a], 2, extent // 2, *c.shape[a + 1 :]))
    if not isinstance(extent, int) and extent == mul(N, 6):
        order = [N, 6] if c.choose.random() < 0.5 else [6, N]
        return c.add("reshape", [c.tensor], shape=(*c.shape[:a], *order, *c.shape[a + 1 :]))
    return None


def fold(c: Chain) -> TensorID:
    keep = c.choose.random() < 0.7
    return c.add("reduce_max", [c.tensor], axes=(c.axis(),), keepdims=keep or len(c.shape) == 1)


def centre(c: Chain) -> TensorID:
    mean = c.add("reduce_mean", [c.tensor], axes=(c.axis(),), keepdims=True)
    return c.add("sub", [c.tensor, mean])


def doubled(c: Chain) -> TensorID:
    return c.add("concat", [c.tensor, c.tensor], axis=c.axis())


def repeated(c: Chain) -> TensorID:
    a = c.axis()
    return c.add("tile", [c.tensor], repeats=tuple(2 if i == a else 1 for i in range(len(c.shape))))


def cut(c: Chain) -> TensorID:
    a = c.axis()
    extent = c.shape[a]
    size = max(extent - 1, 1) if isinstance(extent, int) else extent
    start = extent - size if isinstance(extent, int) else 0
    starts = tuple(start if i == a else 0 for i in range(len(c.shape)))
    sizes = tuple(size if i == a else d for i, d in enumerate(c.shape))
    return c.add("slice", [c.tensor], starts=starts, sizes=sizes, steps=(1,) * len(sizes))


def chosen(c: Chain) -> TensorID:
    return c.add("gather", [c.tensor, c.builder.constant(np.array([0, 0], np.int64))], axis=c.axis())


def written(c: Chain) -> TensorID:
    """Doubled numbers written over the first slice along any axis, which may be that of the rows."""
    a = c.axis()
    rest = [i for i in range(len(c.shape)) if i != a]
    turned = c.add("transpose", [c.tensor], perm=(a, *rest))
    shape = c.builder.type_of(turned).shape
    cut = {"starts": (0,) * len(shape), "sizes": (1, *shape[1:]), "steps": (1,) * len(shape)}
    slices = c.add("slice", [c.add("mul", [turned, c.builder.constant(np.array([2], np.float32))])], **cut)
    places = c.builder.constant(np.zeros((1, 1), np.int64))
    return c.add("scatter_nd", [turned, places, slices], reduction="none")


def product(c: Chain) -> TensorID | None:
    extent = c.shape[-1]
    if not isinstance(extent, int) or len(c.shape) < 2:
        return None
    weights = np.random.default_rng(extent).standard_normal((extent, 4)).astype(np.float32)
    return c.add("matmul", [c.tensor, c.builder.constant(weights)])


def against_itself(c: Chain) -> TensorID | None:
    if len(c.shape) < 2:
        return None
    perm = (*range(len(c.shape) - 2), len(c.shape) - 1, len(c.shape) - 2)
    return c.add("matmul", [c.tensor, c.add("transpose", [c.tensor], perm=perm)])


def widened(c: Chain) -> TensorID:
    ones = c.add("expand", [c.builder.constant(np.float32([[1.5]]))], shape=(N, 1))
    return c.add("reshape", [c.add("mul", [ones, c.builder.constant(np.float32([2, 3]))])], shape=(N, 1, 2))


STEPS: tuple[Callable[[Chain], TensorID | None], ...] = (
    turn, turn, merge, recut, halve, halve, fold, centre, doubled, repeated, cut, chosen, product, written,
    against_itself,
    lambda c: c.add("softmax", [c.tensor], axis=c.axis()),
    lambda c: c.add("cum_sum", [c.tensor], axis=c.axis()),
    lambda c: c.add("add", [c.tensor, widened(c)]) if c.shape[1:] == (6, 2) and c.shape[0] == N else None,
)  # fmt: skip


def proved(graph: ExecutionGraph) -> bool:
    return prove_rows(run_passes(graph, widest_target())[0]).symbol == "N"


def chain(seed: int) -> ExecutionGraph:
    made = Chain(seed)
    for _ in range(LENGTH):
        made.grow()
    return made.finish()


def test_both_answers_occur() -> None:
    answers = [proved(chain(seed)) for seed in range(CHAINS)]
    assert 10 <= sum(answers) <= CHAINS - 10


@pytest.mark.parametrize("start", range(0, CHAINS, 10))
def test_accepted_chains_keep_their_rows_apart(start: int, tmp_path: Path) -> None:
    """Row by row, beside NaN, and for fewer rows."""
    for seed in range(start, start + 10):
        graph = chain(seed)
        if not proved(graph):
            continue
        (folder := tmp_path / str(seed)).mkdir()
        with open_model(graph, folder) as model:
            x = np.random.default_rng(seed).standard_normal((BOUND, 6, 4)).astype(np.float32)
            for i in range(BOUND):
                alone = model.run({"x": x[i : i + 1]})["y"].tobytes()
                beside = np.full_like(x, np.nan)
                beside[i] = x[i]
                for company in (x, beside, x[: i + 1]):
                    found = model.run({"x": company})["y"][i : i + 1].tobytes()
                    assert found == alone, (seed, i, [n.operation for n in graph.nodes])
