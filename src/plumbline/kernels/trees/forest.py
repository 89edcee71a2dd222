"""`Forest`: decision trees as flat lists, checked before any code is made.

A child is a node number, or `-1 - leaf` for a leaf. Attributes of `tree_ensemble`: roots (children as above),
modes, features, splits, on_true, on_false, missing_true (NaN goes to the true side), members (values of each
`member` node in order, as tuples), leaf_starts (first entry of each leaf, one more at the end),
entry_targets, entry_weights, targets, aggregate (sum, average, min or max), base (one number per target, or
empty).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plumbline.kernels.contract import AttributeRefused

__all__ = ["MODES", "Forest", "forest_of"]

MODES = ("le", "lt", "ge", "gt", "eq", "ne", "member")
AGGREGATES = ("sum", "average", "min", "max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """Checked trees. Lists have one entry per node, leaf or leaf entry."""

    roots: tuple[int, ...]
    modes: tuple[str, ...]
    features: tuple[int, ...]
    splits: tuple[float, ...]
    on_true: tuple[int, ...]
    on_false: tuple[int, ...]
    missing_true: tuple[bool, ...]
    members: tuple[tuple[float, ...], ...]
    leaf_starts: tuple[int, ...]
    entry_targets: tuple[int, ...]
    entry_weights: tuple[float, ...]
    targets: int
    aggregate: str
    base: tuple[float, ...]
    depth: int
    """most decisions on a path"""


def forest_of(attributes: Mapping[str, Any]) -> Forest:
    """Read the attributes of a step.

    Raises:
        AttributeRefused: lists differ in length, a child, target or mode does not exist, or nodes form a
        circle.
    """
    nodes = len(attributes["modes"])
    for name in ("features", "splits", "on_true", "on_false", "missing_true"):
        _require(len(attributes[name]) == nodes, name, attributes[name], f"needs {nodes} entries")
    _require(
        set(attributes["modes"]) <= set(MODES), "modes", set(attributes["modes"]), f"each one of {MODES}"
    )
    _require(
        attributes["aggregate"] in AGGREGATES, "aggregate", attributes["aggregate"], f"one of {AGGREGATES}"
    )
    _require(all(f >= 0 for f in attributes["features"]), "features", "negative", "counts from 0")
    starts, entries = attributes["leaf_starts"], len(attributes["entry_targets"])
    ordered = list(starts) == sorted(starts) and len(starts) > 0 and starts[0] == 0 and starts[-1] == entries
    _require(ordered, "leaf_starts", starts, f"rises from 0 to {entries}")
    _require(
        len(attributes["entry_weights"]) == entries, "entry_weights", entries, f"needs {entries} entries"
    )
    targets = attributes["targets"]
    inside = all(0 <= t < targets for t in attributes["entry_targets"])
    _require(inside, "entry_targets", attributes["entry_targets"], f"each under {targets}")
    _require(
        len(attributes["base"]) in (0, targets),
        "base",
        attributes["base"],
        f"needs {targets} entries or none",
    )
    wanted = sum(1 for mode in attributes["modes"] if mode == "member")
    _require(
        len(attributes["members"]) == wanted, "members", len(attributes["members"]), f"needs {wanted} sets"
    )
    return Forest(**attributes, depth=_depth(attributes, nodes, len(starts) - 1))


def _depth(attributes: Mapping[str, Any], nodes: int, leaves: int) -> int:
    """Longest path by decisions, level by level; more levels than nodes are a circle."""
    level, depth = set(attributes["roots"]), 0
    while level:
        missing = [c for c in level if not -leaves <= c < nodes]
        _require(not missing, "on_true", missing[:1], f"{nodes} nodes and {leaves} leaves")
        level = {
            child for n in level if n >= 0 for child in (attributes["on_true"][n], attributes["on_false"][n])
        }
        depth += 1
        _require(depth <= nodes + 1, "on_true", depth, "the nodes form a circle")
    return max(0, depth - 1)


def _require(condition: bool, name: str, value: object, reason: str) -> None:
    if not condition:
        raise AttributeRefused(
            operation="tree_ensemble", attribute=name, value=str(value)[:80], reason=reason
        )
