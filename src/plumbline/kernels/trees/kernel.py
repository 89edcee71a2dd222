"""Native code of `tree_ensemble`: rows walk every tree in order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import DTypeRefused, Inference, KernelCall, Work
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Pointer, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef
from plumbline.kernels.trees.forest import Forest, forest_of

__all__ = ["TreeKernel", "infer_trees"]


def infer_trees(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `tree_ensemble(x [N, F]) -> [N, targets]`, float32 or float64."""
    x, forest = inference.type(0), forest_of(inference.attributes)
    if x.dtype not in (DType.FLOAT32, DType.FLOAT64):
        raise DTypeRefused(operation="tree_ensemble", dtype=x.dtype.value, needed="float32 or float64")
    inference.require(x.rank == 2, "rows of features have two axes")
    width = x.shape[1]
    known = isinstance(width, int) and width > max(forest.features, default=-1)
    inference.require(known or not forest.features, f"{width} features, the trees read more")
    return (TensorType(x.dtype, (x.shape[0], forest.targets)),)


class TreeKernel:
    """Native code of `tree_ensemble`. Weights are summed in the order of trees."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a row."""
        forest = forest_of(signature.attributes)
        cost = 4.0 * len(forest.roots) * max(1, forest.depth)
        return Work(units=signature.outputs[0].shape[0], unit_cost=cost)

    def emit(self, call: KernelCall) -> None:
        """Start every target, walk the trees, finish every target."""
        b, forest = call.builder, forest_of(call.attributes)
        x, y = call.input(0), call.output()
        walk = _Walk(b, forest, x)
        with b.range(call.begin, call.end) as row:
            source, target = row * x.shape[1], row * forest.targets
            start = {"min": float("inf"), "max": float("-inf")}.get(forest.aggregate, 0.0)
            with b.range(0, forest.targets) as t:
                y.store_flat(b.const(y.dtype, start), target + t)
            with b.range(0, len(forest.roots)) as tree:
                walk.add_leaf(walk.find_leaf(source, tree), y, target)
            with b.range(0, forest.targets) as t:
                y.store_flat(walk.finish(y.load_flat(target + t), t), target + t)


class _Walk:
    """The code of one tree of one row. The lists of the forest are constants of the code."""

    def __init__(self, b: FunctionBuilder, forest: Forest, x: TensorRef) -> None:
        self.b, self.forest, self.x = b, forest, x
        self._digest = hashlib.sha256(repr(forest).encode()).hexdigest()[:16]

    def _table(self, name: str, dtype: DType, numbers: Sequence[Any]) -> Pointer:
        return self.b.module.table(f"trees_{self._digest}_{name}_{dtype.value}", dtype, list(numbers) or [0])

    def find_leaf(self, source: Index, tree: Index) -> Value:
        """Number of the leaf that a row reaches."""
        b, forest = self.b, self.forest
        root = b.load(self._table("roots", DType.INT64, forest.roots), DType.INT64, tree)

        def decide(_: Index, carried: list[Value]) -> Sequence[Value]:
            inner = carried[0] >= 0
            node = b.select(inner, carried[0], 0)
            children = [
                b.load(self._table(name, DType.INT64, numbers), DType.INT64, node)
                for name, numbers in (("true", forest.on_true), ("false", forest.on_false))
            ]
            chosen = b.select(self._holds(source, node), children[0], children[1])
            return [b.select(inner, chosen, carried[0])]

        return -1 - b.reduce(0, forest.depth, [root], decide)[0]

    def _holds(self, source: Index, node: Value) -> Value:
        """Whether the condition of a node holds for a row."""
        b, forest = self.b, self.forest
        feature = b.load(self._table("features", DType.INT64, forest.features), DType.INT64, node)
        value = self.x.load_flat(source + feature)
        split = b.load(self._table("splits", value.dtype, forest.splits), value.dtype, node)
        present = sorted(set(forest.modes))
        modes = self._table("modes", DType.INT64, [present.index(m) for m in forest.modes])
        mode = b.load(modes, DType.INT64, node)
        result: Value | None = None
        for number, name in enumerate(present):
            holds = self._member(value, node) if name == "member" else b.compare(name, value, split)
            result = holds if result is None else b.select(b.compare("eq", mode, number), holds, result)
        missing = b.load(
            self._table("missing", DType.UINT8, [int(m) for m in forest.missing_true]), DType.UINT8, node
        )
        found = b.const(DType.BOOL, False) if result is None else result
        return found | (b.is_nan(value) & b.compare("ne", missing, 0))

    def _member(self, value: Value, node: Value) -> Value:
        """Whether a value is in the set of a node."""
        b, forest = self.b, self.forest
        starts: list[int] = []
        values: list[float] = []
        used = 0
        sets = iter(forest.members)
        for mode in forest.modes:
            starts.append(used)
            if mode == "member":
                members = next(sets)
                values += members
                used += len(members)
        starts.append(used)
        table = self._table("member_starts", DType.INT64, starts)
        low, high = (b.load(table, DType.INT64, node + i) for i in (0, 1))
        numbers = self._table("member_values", value.dtype, values)

        def seek(i: Index, carried: list[Value]) -> Sequence[Value]:
            return [carried[0] | b.compare("eq", value, b.load(numbers, value.dtype, i))]

        return b.reduce(low, high, [b.const(DType.BOOL, False)], seek)[0]

    def add_leaf(self, leaf: Value, y: TensorRef, target: Index) -> None:
        """Fold the entries of a leaf into the targets of a row."""
        b, forest = self.b, self.forest
        fold: Callable[[Value, Value], Value] = {"min": b.minimum, "max": b.maximum}.get(
            forest.aggregate, b.add
        )
        starts = self._table("starts", DType.INT64, forest.leaf_starts)
        low, high = (b.load(starts, DType.INT64, leaf + i) for i in (0, 1))
        with b.range(low, high) as entry:
            column = b.load(self._table("targets", DType.INT64, forest.entry_targets), DType.INT64, entry)
            weight = b.load(self._table("weights", y.dtype, forest.entry_weights), y.dtype, entry)
            y.store_flat(fold(y.load_flat(target + column), weight), target + column)

    def finish(self, value: Value, target: Index) -> Value:
        """Average and base; a minimum or maximum over no leaf is 0."""
        b, forest = self.b, self.forest
        if forest.aggregate == "average":
            value = value / float(max(1, len(forest.roots)))
        if forest.aggregate in ("min", "max"):
            empty = float("inf") if forest.aggregate == "min" else float("-inf")
            value = b.select(b.compare("eq", value, empty), 0.0, value)
        if forest.base:
            value = value + b.load(self._table("base", value.dtype, forest.base), value.dtype, target)
        return value
