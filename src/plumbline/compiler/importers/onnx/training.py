"""Converters of optimiser steps (ai.onnx.preview.training) and of n-gram counts."""

from __future__ import annotations

from plumbline.compiler.graph.graph import TensorID
from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.compiler.importers.onnx.registry import Converted, converts
from plumbline.kernels.training.update import METHODS

__all__: list[str] = []

_TRAINING = "ai.onnx.preview.training"


@converts("Adagrad", domain=_TRAINING)
def adagrad(node: NodeView) -> Converted:
    """Steps by accumulated squares."""
    return _update(node, "adagrad", ("decay_factor", "epsilon", "norm_coefficient"))


@converts("Adam", domain=_TRAINING)
def adam(node: NodeView) -> Converted:
    """Steps by running moments."""
    names = ("alpha", "beta", "epsilon", "norm_coefficient", "norm_coefficient_post")
    return _update(node, "adam", names)


@converts("Momentum", domain=_TRAINING)
def momentum(node: NodeView) -> Converted:
    """Steps by velocity."""
    return _update(node, "momentum", ("alpha", "beta", "norm_coefficient"))


def _update(node: NodeView, operation: str, names: tuple[str, ...]) -> Converted:
    """One step per tensor: ONNX lists all parameters, then all gradients, then all states of each kind."""
    kinds = 2 + METHODS[operation].states
    count, rest = divmod(len(node.inputs) - 2, kinds)
    if rest or count < 1:
        node.refuse(f"{len(node.inputs) - 2} operands are not {kinds} of each tensor")
    attributes: dict[str, object] = {name: node.float(name) for name in names if node.has(name)}
    if node.has("mode"):
        attributes["mode"] = node.string("mode")
    results: list[tuple[TensorID, ...]] = []
    for tensor in range(count):
        operands = [node.input(2 + kind * count + tensor) for kind in range(kinds)]
        results.append(node.add(operation, [node.input(0), node.input(1), *operands], attributes))
    return [result[kind] for kind in range(kinds - 1) for result in results]


@converts("TfIdfVectorizer", since=9)
def tf_idf_vectorizer(node: NodeView) -> Converted:
    """Counts of integer n-grams."""
    if not node.has("pool_int64s"):
        node.refuse("n-grams of strings have no native form")
    attributes = {
        "pool": node.ints("pool_int64s"),
        "starts": node.ints("ngram_counts"),
        "columns": node.ints("ngram_indexes"),
        "weights": node.floats("weights") if node.has("weights") else None,
        "mode": node.string("mode"),
        "min_length": node.int("min_gram_length"),
        "max_length": node.int("max_gram_length"),
        "max_skip": node.int("max_skip_count"),
    }
    return node.add1("tf_idf_vectorizer", [node.input(0)], attributes)
