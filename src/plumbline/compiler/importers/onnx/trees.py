"""Converters of tree ensembles (ai.onnx.ml)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.compiler.graph.graph import TensorID
from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.compiler.importers.onnx.registry import Converted, converts

__all__: list[str] = []

_DOMAIN = "ai.onnx.ml"
_MODES = ("le", "lt", "ge", "gt", "eq", "ne", "member")
_MODE_NAMES = {f"BRANCH_{long}": short for long, short in (
    ("LEQ", "le"), ("LT", "lt"), ("GTE", "ge"), ("GT", "gt"), ("EQ", "eq"), ("NEQ", "ne"))}  # fmt: skip
_AGGREGATES = ("average", "sum", "min", "max")
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


@converts("TreeEnsemble", since=5, domain=_DOMAIN)
def tree_ensemble(node: NodeView) -> Converted:
    """Trees whose children are numbered nodes and leaves."""
    modes = [int(m) for m in node.array("nodes_modes").ravel()]
    if not modes or not all(0 <= m < len(_MODES) for m in modes):
        node.refuse("nodes_modes names an unknown comparison")
    targets, weights = node.ints("leaf_targetids"), node.array("leaf_weights").ravel()
    attributes = {
        "roots": node.ints("tree_roots"),
        "modes": tuple(_MODES[m] for m in modes),
        "features": node.ints("nodes_featureids"),
        "splits": _floats(node.array("nodes_splits")),
        "on_true": _children(node, "true"),
        "on_false": _children(node, "false"),
        "missing_true": _missing(node, len(modes)),
        "members": _members(node),
        "leaf_starts": tuple(range(len(targets) + 1)),
        "entry_targets": targets,
        "entry_weights": _floats(weights),
        "targets": node.int("n_targets"),
        "aggregate": _choice(node, "aggregate_function", 1, _AGGREGATES),
        "base": (),
    }
    return _transformed(node, attributes, _choice(node, "post_transform", 0, _TRANSFORMS))


def _children(node: NodeView, side: str) -> tuple[int, ...]:
    ids, leaves = node.ints(f"nodes_{side}nodeids"), node.ints(f"nodes_{side}leafs")
    if len(ids) != len(leaves):
        node.refuse(f"nodes_{side}nodeids and nodes_{side}leafs differ in length")
    return tuple(-1 - child if leaf else child for child, leaf in zip(ids, leaves, strict=True))


def _members(node: NodeView) -> tuple[tuple[float, ...], ...]:
    """Sets of values, delimited by NaN."""
    if not node.has("membership_values"):
        return ()
    sets: list[list[float]] = [[]]
    for value in node.array("membership_values").ravel():
        if np.isnan(value):
            sets.append([])
        else:
            sets[-1].append(float(value))
    return tuple(tuple(s) for s in (sets if sets[-1] else sets[:-1]))


def _missing(node: NodeView, count: int) -> tuple[bool, ...]:
    return tuple(v != 0 for v in node.ints("nodes_missing_value_tracks_true", (0,) * count))


def _choice(node: NodeView, name: str, default: int, names: Sequence[str]) -> str:
    number = node.int(name, default)
    if not 0 <= number < len(names):
        node.refuse(f"{name} {number} is not known")
    return names[number]


def _floats(array: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in array.ravel())


@converts("TreeEnsembleRegressor", domain=_DOMAIN)
def tree_ensemble_regressor(node: NodeView) -> Converted:
    """Trees whose nodes are numbered by tree, with leaves among the nodes."""
    keys = list(zip(node.ints("nodes_treeids"), node.ints("nodes_nodeids"), strict=False))
    modes = node.strings("nodes_modes")
    if len(modes) != len(keys) or not set(modes) <= {*_MODE_NAMES, "LEAF"}:
        node.refuse("nodes_modes names an unknown comparison or has another length")
    inner = [i for i, mode in enumerate(modes) if mode != "LEAF"]
    numbers = {keys[i]: n for n, i in enumerate(inner)}
    leaves = {keys[i]: n for n, i in enumerate(i for i, mode in enumerate(modes) if mode == "LEAF")}
    roots = [key for position, key in enumerate(keys) if position == 0 or keys[position - 1][0] != key[0]]
    splits, missing = _list(node, "nodes_values"), _missing(node, len(keys))
    features = node.ints("nodes_featureids")
    if len(splits) != len(keys) or len(features) != len(keys) or len(missing) != len(keys):
        node.refuse("lists of nodes differ in length")

    def child(key: tuple[int, int]) -> int:
        if key not in numbers and key not in leaves:
            node.refuse(f"tree {key[0]} has no node {key[1]}")
        return numbers[key] if key in numbers else -1 - leaves[key]

    sides = {}
    for side in ("true", "false"):
        ids = node.ints(f"nodes_{side}nodeids")
        if len(ids) != len(keys):
            node.refuse("lists of nodes differ in length")
        sides[side] = tuple(child((keys[i][0], ids[i])) for i in inner)
    attributes = {
        "roots": tuple(child(key) for key in roots),
        "modes": tuple(_MODE_NAMES[modes[i]] for i in inner),
        "features": tuple(features[i] for i in inner),
        "splits": tuple(splits[i] for i in inner),
        "on_true": sides["true"],
        "on_false": sides["false"],
        "missing_true": tuple(missing[i] for i in inner),
        "members": (),
        **_entries(node, leaves),
        "targets": node.int("n_targets"),
        "aggregate": node.string("aggregate_function", "SUM").lower(),
        "base": _list(node, "base_values"),
    }
    return _transformed(node, attributes, node.string("post_transform", "NONE"))


def _list(node: NodeView, name: str) -> tuple[float, ...]:
    """Floats from an attribute or from its tensor twin."""
    if node.has(f"{name}_as_tensor"):
        return _floats(node.array(f"{name}_as_tensor"))
    return node.floats(name, ())


def _entries(node: NodeView, leaves: Mapping[tuple[int, int], int]) -> dict[str, Any]:
    """What each leaf adds to which target."""
    found: list[list[tuple[int, float]]] = [[] for _ in leaves]
    lists = (node.ints("target_treeids"), node.ints("target_nodeids"), node.ints("target_ids"))
    for tree, place, target, weight in zip(*lists, _list(node, "target_weights"), strict=False):
        if (tree, place) not in leaves:
            node.refuse(f"a weight names node {place} of tree {tree}, which is no leaf")
        found[leaves[tree, place]].append((target, weight))
    starts = [0]
    for entries in found:
        starts.append(starts[-1] + len(entries))
    flat = [entry for entries in found for entry in entries]
    return {
        "leaf_starts": tuple(starts),
        "entry_targets": tuple(target for target, _ in flat),
        "entry_weights": tuple(weight for _, weight in flat),
    }


def _transformed(node: NodeView, attributes: Mapping[str, Any], transform: str) -> TensorID:
    scores = node.add1("tree_ensemble", [node.input(0)], attributes)
    match transform:
        case "NONE":
            return scores
        case "SOFTMAX":
            return node.add1("softmax", [scores], {"axis": 1})
        case "LOGISTIC":
            return node.add1("sigmoid", [scores])
        case _:
            node.refuse(f"post_transform {transform} has no native form")
