"""Tiny encoders of every family with random weights, and what they compute in float64, row by row."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

HIDDEN, HEADS, INNER, LAYERS, VOCABULARY = 48, 4, 80, 2, 40
WORDS = ("<s>", "<pad>", "</s>", "<unk>", *(f"w{i}" for i in range(VOCABULARY - 4)))


@dataclass(frozen=True)
class TinyEncoder:
    folder: Path
    family: str
    config: dict[str, Any]
    weights: dict[str, np.ndarray]


def _linear(
    out: dict[str, np.ndarray], rng: np.random.Generator, name: str, outputs: int, inputs: int
) -> None:
    out[f"{name}.weight"] = rng.normal(0, 1 / math.sqrt(inputs), (outputs, inputs))
    out[f"{name}.bias"] = rng.normal(0, 0.1, outputs)


def _norm(out: dict[str, np.ndarray], rng: np.random.Generator, name: str) -> None:
    out[f"{name}.weight"] = rng.normal(1, 0.1, HIDDEN)
    out[f"{name}.bias"] = rng.normal(0, 0.1, HIDDEN)


LAYERS_OF = {
    "bert": ("encoder.layer.{}.", "attention.self.query", "attention.self.key", "attention.self.value",
             "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "output.dense",
             "output.LayerNorm"),
    "distilbert": ("transformer.layer.{}.", "attention.q_lin", "attention.k_lin", "attention.v_lin",
                   "attention.out_lin", "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"),
    "mpnet": ("encoder.layer.{}.", "attention.attn.q", "attention.attn.k", "attention.attn.v",
              "attention.attn.o",
              "attention.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"),
}  # fmt: skip
LAYERS_OF["roberta"] = LAYERS_OF["bert"]


def random_weights(family: str, positions: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    out: dict[str, np.ndarray] = {
        "embeddings.word_embeddings.weight": rng.normal(0, 1, (VOCABULARY, HIDDEN)),
        "embeddings.position_embeddings.weight": rng.normal(0, 1, (positions, HIDDEN)),
    }
    if family in ("bert", "roberta"):
        rows = 2 if family == "bert" else 1
        out["embeddings.token_type_embeddings.weight"] = rng.normal(0, 1, (rows, HIDDEN))
    if family == "mpnet":
        out["encoder.relative_attention_bias.weight"] = rng.normal(0, 1, (32, HEADS))
    _norm(out, rng, "embeddings.LayerNorm")
    prefix, *names = LAYERS_OF[family]
    for layer in range(LAYERS):
        q, k, v, o, norm1, inner, outer, norm2 = (prefix.format(layer) + name for name in names)
        for name in (q, k, v, o):
            _linear(out, rng, name, HIDDEN, HIDDEN)
        _linear(out, rng, inner, INNER, HIDDEN)
        _linear(out, rng, outer, HIDDEN, INNER)
        _norm(out, rng, norm1)
        _norm(out, rng, norm2)
    return {name: array.astype(np.float32) for name, array in out.items()}


def config_of(family: str, positions: int) -> dict[str, Any]:
    if family == "distilbert":
        return {
            "model_type": "distilbert", "dim": HIDDEN,
            "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": INNER,
            "activation": "gelu", "vocab_size": VOCABULARY, "max_position_embeddings": positions,
            "architectures": ["DistilBertModel"], "sinusoidal_pos_embds": False, "tie_weights_": True,
        }  # fmt: skip
    config: dict[str, Any] = {
        "model_type": family, "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "intermediate_size": INNER, "hidden_act": "gelu", "vocab_size": VOCABULARY, "layer_norm_eps": 1e-5,
        "max_position_embeddings": positions, "hidden_dropout_prob": 0.1, "torch_dtype": "float32",
    }  # fmt: skip
    if family == "bert":
        config["type_vocab_size"] = 2
    if family == "roberta":
        config |= {"type_vocab_size": 1, "pad_token_id": 1}
    if family == "mpnet":
        config |= {"relative_attention_num_buckets": 32}
    return config


def write_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.enable_padding(pad_id=1, pad_token="<pad>")
    tokenizer.save(str(path))


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., TinyEncoder]:
    """Write a folder: `tiny(family, positions=..., files={name: json or None}, weights=..., **config)`."""

    def make(
        family: str = "bert", *, positions: int = 34, weights: dict[str, np.ndarray] | None = None,
        files: dict[str, Any] | None = None, name: str = "model", **changes: Any,
    ) -> TinyEncoder:  # fmt: skip
        folder = tmp_path / name
        folder.mkdir()
        config = {**config_of(family, positions), **changes}
        weights = random_weights(family, positions) if weights is None else weights
        (folder / "config.json").write_text(json.dumps(config))
        save_file(weights, folder / "model.safetensors")
        write_tokenizer(folder / "tokenizer.json")
        for path, content in (files or {}).items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(json.dumps(content))
        return TinyEncoder(folder, family, config, weights)

    return make


# -- the oracle: one row at a time, float64, no packing ------------------------------------------------------


def _layer_norm(x: np.ndarray, w: dict[str, np.ndarray], name: str, epsilon: float) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
    return centred / scale * w[f"{name}.weight"] + w[f"{name}.bias"]


def _apply(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    return x @ w[f"{name}.weight"].astype(np.float64).T + w[f"{name}.bias"]


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))


def _position_ids(family: str, ids: list[int]) -> list[int]:
    if family not in ("roberta", "mpnet"):
        return list(range(len(ids)))
    counted, result = 0, []
    for token in ids:
        counted += token != 1
        result.append(counted + 1 if token != 1 else 1)
    return result


def _bucket(distance: int) -> int:
    """T5 buckets: 32, both directions, up to 128."""
    base, n = (16, distance) if distance > 0 else (0, -distance)
    if n < 8:
        return base + n
    return base + min(15, 8 + int(math.log(n / 8) / math.log(16) * 8 + 1e-9))


def _attention_bias(w: dict[str, np.ndarray], count: int) -> np.ndarray:
    table = w["encoder.relative_attention_bias.weight"].astype(np.float64)
    return np.array([[table[_bucket(k - q)] for k in range(count)] for q in range(count)]).transpose(2, 0, 1)


def reference_row(tiny: TinyEncoder, ids: list[int]) -> np.ndarray:
    """Token vectors of one row after the last layer: `[tokens, hidden]`."""
    w, family = tiny.weights, tiny.family
    epsilon = tiny.config.get("layer_norm_eps", 1e-12)
    x = w["embeddings.word_embeddings.weight"][ids].astype(np.float64)
    x = x + w["embeddings.position_embeddings.weight"][_position_ids(family, ids)]
    if family in ("bert", "roberta"):
        x = x + w["embeddings.token_type_embeddings.weight"][0]
    x = _layer_norm(x, w, "embeddings.LayerNorm", epsilon)
    prefix, *names = LAYERS_OF[family]
    for layer in range(LAYERS):
        q, k, v, o, norm1, inner, outer, norm2 = (prefix.format(layer) + name for name in names)
        heads = [
            _apply(x, w, n).reshape(len(ids), HEADS, HIDDEN // HEADS).transpose(1, 0, 2) for n in (q, k, v)
        ]
        scores = heads[0] @ heads[1].transpose(0, 2, 1) / math.sqrt(HIDDEN // HEADS)
        if family == "mpnet":
            scores = scores + _attention_bias(w, len(ids))
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        attended = (weights @ heads[2]).transpose(1, 0, 2).reshape(len(ids), HIDDEN)
        x = _layer_norm(x + _apply(attended, w, o), w, norm1, epsilon)
        x = _layer_norm(x + _apply(_gelu(_apply(x, w, inner)), w, outer), w, norm2, epsilon)
    return x


@pytest.fixture
def reference() -> Callable[..., np.ndarray]:
    """Sentence vectors in float64: `reference(tiny, rows, pooling, normalize)`."""

    def compute(
        tiny: TinyEncoder, rows: list[list[int]], pooling: str = "mean", normalize: bool = True
    ) -> np.ndarray:
        tokens = [reference_row(tiny, ids) for ids in rows]
        pooled = np.array([t[0] if pooling == "cls" else t.mean(axis=0) for t in tokens])
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True) if normalize else pooled

    return compute
