"""Converters of attention operators."""

from __future__ import annotations

from typing import Any

from plumbline.compiler.graph.graph import TensorID
from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.compiler.importers.onnx.registry import Converted, converts
from plumbline.contracts.dims import Dim, floordiv

__all__: list[str] = []

_MODES = ("raw", "capped", "biased", "probabilities")


@converts("Attention", since=23)
def attention(node: NodeView) -> Converted:
    """Scaled dot-product attention; a past becomes a concatenation before it."""
    if (node.optional(4) is None) != (node.optional(5) is None):
        node.refuse("past_key and past_value come together")
    keeps = node.optional(4) is not None or node.wants(1) or node.wants(2)
    if node.optional(6) is not None and keeps:
        node.refuse("nonpad_kv_seqlen excludes past and present")
    k, v, past = node.input(1), node.input(2), _past(node)
    if keeps:
        k, v = (_with_past(node, position, past_position) for position, past_position in ((1, 4), (2, 5)))
    attributes = {**_attention_attributes(node), "past": past}
    q = _heads_first(node, 0, "q_num_heads") if keeps and node.rank(0) == 3 else node.input(0)
    results = node.add("attention", [q, k, v, node.optional(3), node.optional(6)], attributes)
    y = results[0]
    if keeps and node.rank(0) == 3:
        y = _packed(node, y)
    return y, k, v, results[1] if len(results) > 1 else None


def _past(node: NodeView) -> Dim:
    return 0 if node.optional(4) is None else node.shape(4)[2]


def _attention_attributes(node: NodeView) -> dict[str, Any]:
    mode = node.int("qk_matmul_output_mode", 0)
    if not 0 <= mode < len(_MODES):
        node.refuse(f"qk_matmul_output_mode {mode} is not known")
    windows = {side: node.int(f"{side}_window_size", -1) for side in ("left", "right")}
    if min(windows.values()) < -1:
        node.refuse(f"window sizes {windows} must be -1 or more")
    return {
        "q_heads": node.int("q_num_heads", 0),
        "kv_heads": node.int("kv_num_heads", 0),
        "scale": node.float("scale") if node.has("scale") else None,
        "causal": node.int("is_causal", 0) != 0,
        "softcap": node.float("softcap", 0.0),
        "left_window": windows["left"],
        "right_window": windows["right"],
        "scores": _MODES[mode] if node.wants(3) else None,
    }


def _heads_first(node: NodeView, position: int, heads_name: str) -> TensorID:
    """A packed operand as [B, H, S, D]."""
    if node.rank(position) == 4:
        return node.input(position)
    batch, length, width = node.shape(position)
    heads = node.int(heads_name)
    if heads < 1:
        node.refuse(f"{heads_name} = {heads}")
    split = node.reshape(node.input(position), (batch, length, heads, floordiv(width, heads)))
    return node.add1("transpose", [split], {"perm": (0, 2, 1, 3)})


def _with_past(node: NodeView, position: int, past_position: int) -> TensorID:
    """Keys or values with those of the past before them, [B, H, S, D]."""
    fresh = _heads_first(node, position, "kv_num_heads")
    past = node.optional(past_position)
    return fresh if past is None else node.add1("concat", [past, fresh], {"axis": 2})


def _packed(node: NodeView, tensor: TensorID) -> TensorID:
    batch, heads, length, size = node.builder.type_of(tensor).shape
    turned = node.add1("transpose", [tensor], {"perm": (0, 2, 1, 3)})
    return node.reshape(turned, (batch, length, heads * size))


@converts("RotaryEmbedding", since=23)
def rotary_embedding(node: NodeView) -> Converted:
    """Pairs turned by their position."""
    attributes = {
        "heads": node.int("num_heads", 0),
        "turned": node.int("rotary_embedding_dim", 0),
        "interleaved": node.int("interleaved", 0) != 0,
    }
    return node.add1("rotary_embedding", [*(node.input(i) for i in range(3)), node.optional(3)], attributes)


@converts("LinearAttention", since=27)
def linear_attention(node: NodeView) -> Converted:
    """A matrix state per head."""
    scale = node.float("scale", 0.0)
    state = node.optional(3)
    attributes = {
        "q_heads": node.int("q_num_heads"),
        "kv_heads": node.int("kv_num_heads"),
        "rule": node.string("update_rule", "gated_delta"),
        "scale": None if scale == 0.0 else scale,
        "state_dtype": None if state is None else node.builder.type_of(state).dtype.value,
    }
    operands = [*(node.input(i) for i in range(3)), *(node.optional(i) for i in range(3, 6))]
    return node.add("linear_attention", operands, attributes)
