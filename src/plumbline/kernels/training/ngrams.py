"""`tf_idf_vectorizer` over integers: how often the n-grams of a pool occur in each row."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.contracts.program import StepSignature
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import AttributeRefused, DTypeRefused, Inference, KernelCall, Work
from plumbline.kernels.emit.ir import FunctionBuilder, Index, Pointer, Value
from plumbline.kernels.emit.target import TargetDescription
from plumbline.kernels.emit.tensor import TensorRef

__all__ = ["Gram", "NgramKernel", "grams_of", "infer_ngrams", "reference_ngrams"]

MODES = ("TF", "IDF", "TFIDF")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gram:
    """One n-gram of the pool: its items, the output column and the weight."""

    items: tuple[int, ...]
    column: int
    weight: float


def grams_of(attributes: Mapping[str, Any]) -> tuple[Gram, ...]:
    """The n-grams of lengths `min_length..max_length`.

    Attributes: pool (all items, by length), starts (first item of each length), columns (one per n-gram),
    weights (one per n-gram or None), mode, min_length, max_length, max_skip.

    Raises:
        AttributeRefused: the lists do not fit each other.
    """
    pool, starts, columns = (tuple(attributes[name]) for name in ("pool", "starts", "columns"))
    weights = tuple(attributes.get("weights") or (1.0,) * len(columns))
    grams: list[Gram] = []
    number = 0
    for length, start in enumerate(starts, start=1):
        end = starts[length] if length < len(starts) else len(pool)
        if not 0 <= start <= end <= len(pool) or (end - start) % length:
            raise _refused("starts", starts, f"{length}-grams from {start} to {end} of {len(pool)} items")
        for first in range(start, end, length):
            if number >= len(columns) or number >= len(weights) or columns[number] < 0:
                raise _refused("columns", columns, "needs a column and a weight for every n-gram")
            if attributes["min_length"] <= length <= attributes["max_length"]:
                items = tuple(int(i) for i in pool[first : first + length])
                grams.append(Gram(items=items, column=int(columns[number]), weight=float(weights[number])))
            number += 1
    return tuple(grams)


def _refused(name: str, value: object, reason: str) -> AttributeRefused:
    return AttributeRefused(
        operation="tf_idf_vectorizer", attribute=name, value=str(value)[:80], reason=reason
    )


def infer_ngrams(inference: Inference) -> tuple[TensorType, ...]:
    """Shape rule of `tf_idf_vectorizer([N, C] or [C])`: one column per output of the pool."""
    x = inference.type(0)
    if x.dtype not in (DType.INT32, DType.INT64):
        raise DTypeRefused(operation="tf_idf_vectorizer", dtype=x.dtype.value, needed="int32 or int64")
    inference.require(x.rank in (1, 2), "rows of items have one or two axes")
    if inference.attributes["mode"] not in MODES:
        raise _refused("mode", inference.attributes["mode"], f"one of {MODES}")
    grams_of(inference.attributes)
    width = max(inference.attributes["columns"], default=-1) + 1
    return (TensorType(DType.FLOAT32, (*x.shape[:-1], width)),)


class NgramKernel:
    """Native code of `tf_idf_vectorizer`."""

    def work(self, signature: StepSignature, target: TargetDescription) -> Work:
        """One unit is a row."""
        shape = signature.outputs[0].shape
        grams = grams_of(signature.attributes)
        return Work(units=shape[0] if len(shape) == 2 else 1, unit_cost=32.0 * max(1, len(grams)))

    def emit(self, call: KernelCall) -> None:
        """Zero the row, then count one n-gram after the other."""
        b, x, y = call.builder, call.input(0), call.output()
        width, length = y.shape[-1], x.shape[-1]
        by_length: dict[int, list[Gram]] = {}
        for gram in grams_of(call.attributes):
            by_length.setdefault(len(gram.items), []).append(gram)
        with b.range(call.begin, call.end) as row:
            target, source = row * width, row * length
            with b.range(0, width) as column:
                y.store_flat(b.const(DType.FLOAT32, 0.0), target + column)
            for size, grams in sorted(by_length.items()):
                tables = _tables(b, size, grams)
                with b.range(0, len(grams)) as number:
                    count = _count(b, x, source, length, tables[0], number, size, call.attributes["max_skip"])
                    place = target + b.load(tables[1], DType.INT64, number)
                    weight = b.load(tables[2], DType.FLOAT32, number)
                    y.store_flat(
                        y.load_flat(place) + _value(b, call.attributes["mode"], count, weight), place
                    )


def _tables(b: FunctionBuilder, size: int, grams: Sequence[Gram]) -> tuple[Pointer, Pointer, Pointer]:
    """Items, columns and weights of the n-grams of one length, as constants of the code."""
    digest = hashlib.sha256(repr(grams).encode()).hexdigest()[:16]
    items = [item for gram in grams for item in gram.items]
    return (
        b.module.table(f"grams_{digest}_items", DType.INT64, items),
        b.module.table(f"grams_{digest}_columns", DType.INT64, [g.column for g in grams]),
        b.module.table(f"grams_{digest}_weights", DType.FLOAT32, [g.weight for g in grams]),
    )


def _count(
    b: FunctionBuilder, x: TensorRef, source: Index, length: Index, items: Pointer, gram: Index, size: int,
    max_skip: int,
) -> Value:  # fmt: skip
    """Occurrences of an n-gram with 0 to `max_skip` items between neighbours; one item cannot skip."""

    def with_skip(skip: Index, carried: list[Value]) -> Sequence[Value]:
        distance = skip + 1
        places = b.maximum(b.index(length) - distance * (size - 1), 0)

        def at(place: Index, counts: list[Value]) -> Sequence[Value]:
            same: Value | None = None
            for i in range(size):
                found = b.cast(x.load_flat(source + place + distance * i), DType.INT64)
                equal = b.compare("eq", found, b.load(items, DType.INT64, gram * size + i))
                same = equal if same is None else same & equal
            one = b.index(1)
            return [counts[0] + (one if same is None else b.select(same, one, 0))]

        return b.reduce(0, places, carried, at)

    skips = 1 if size == 1 else max_skip + 1
    return b.reduce(0, skips, [b.const(DType.INT64, 0)], with_skip)[0]


def _value(b: FunctionBuilder, mode: str, count: Value, weight: Value) -> Value:
    number = b.cast(count, DType.FLOAT32)
    if mode == "TF":
        return number
    if mode == "IDF":
        return b.select(count > 0, weight, 0.0)
    return number * weight


def reference_ngrams(
    inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]
) -> tuple[np.ndarray, ...]:
    """Counts by slicing rows."""
    source = np.asarray(inputs[0])
    rows = np.atleast_2d(source)
    result = np.zeros((rows.shape[0], max(attributes["columns"], default=-1) + 1), np.float32)
    for gram in grams_of(attributes):
        size = len(gram.items)
        for r, row in enumerate(rows):
            count = 0
            for distance in range(1, 2 if size == 1 else attributes["max_skip"] + 2):
                for start in range(max(0, len(row) - distance * (size - 1))):
                    count += tuple(row[start : start + distance * (size - 1) + 1 : distance]) == gram.items
            value = {"TF": count, "IDF": gram.weight * (count > 0), "TFIDF": count * gram.weight}
            result[r, gram.column] += value[attributes["mode"]]
    return (result if source.ndim == 2 else result[0],)
