"""Names of the weights of one transformer layer in each family."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LAYER_NAMES", "LayerNames"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNames:
    """Modules of a layer; `{layer}` in `prefix` is its number."""

    prefix: str
    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    feed_in: str
    feed_out: str
    output_norm: str

    def module(self, layer: int, name: str) -> str:
        """Full name of a module."""
        return self.prefix.format(layer=layer) + name


_BERT = LayerNames(
    prefix="encoder.layer.{layer}.", query="attention.self.query", key="attention.self.key",
    value="attention.self.value", attention_output="attention.output.dense",
    attention_norm="attention.output.LayerNorm", feed_in="intermediate.dense", feed_out="output.dense",
    output_norm="output.LayerNorm",
)  # fmt: skip
_DISTILBERT = LayerNames(
    prefix="transformer.layer.{layer}.",
    query="attention.q_lin", key="attention.k_lin", value="attention.v_lin",
    attention_output="attention.out_lin",
    attention_norm="sa_layer_norm", feed_in="ffn.lin1", feed_out="ffn.lin2",
    output_norm="output_layer_norm",
)  # fmt: skip
_MPNET = LayerNames(
    prefix="encoder.layer.{layer}.",
    query="attention.attn.q", key="attention.attn.k", value="attention.attn.v",
    attention_output="attention.attn.o", attention_norm="attention.LayerNorm", feed_in="intermediate.dense",
    feed_out="output.dense", output_norm="output.LayerNorm",
)  # fmt: skip
LAYER_NAMES = {"bert": _BERT, "roberta": _BERT, "distilbert": _DISTILBERT, "mpnet": _MPNET}
"""By family."""
