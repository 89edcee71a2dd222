"""A sentence encoder of the BERT family as a graph on one packed token axis.

The encoder is that of Devlin et al. (2019), "BERT", sections 3 and A.2: embeddings, then layers of
self-attention and feed-forward blocks, each followed by a residual sum and layer normalisation. Instead of
a padded batch `[B, S]`, tokens of all rows stand one after the other, and row offsets say where each
begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.graph import ExecutionGraph, TensorID
from plumbline.compiler.importers.digest import digest_file
from plumbline.compiler.importers.huggingface.config import EncoderConfig
from plumbline.compiler.importers.huggingface.folder import EncoderFolder, read_encoder_folder
from plumbline.compiler.importers.huggingface.layers import LAYER_NAMES, LayerNames
from plumbline.compiler.importers.huggingface.refusals import SymbolRefused
from plumbline.compiler.importers.huggingface.weights import WeightIndex
from plumbline.compiler.importers.safetensors import index_safetensors
from plumbline.contracts.dims import add, symbol
from plumbline.contracts.tensors import DType, TensorType

__all__ = ["DEFAULT_BOUNDS", "build_encoder", "import_encoder"]

DEFAULT_BOUNDS = {"tokens": 1024, "rows": 64}
"""Bounds of the packed token axis and of the rows of one run."""
MAX_BOUND = 2**24


def import_encoder(
    folder: str | Path,
    symbols: Mapping[str, int] | None = None,
    *,
    digest: Callable[[Path], str] = digest_file,
) -> ExecutionGraph:
    """Read a Hugging Face folder into a graph. Weights are indexed and checked, not read.

    The graph has inputs `token_ids` int32 `[tokens]` and `row_offsets` int32 `[rows + 1]` (ascending, from
    0 to the number of tokens; a row that is longer than the position table loses its end) and the output
    `embeddings` float32 `[rows, hidden]`.

    Args:
        folder: with config.json, one safetensors file and tokenizer.json; sentence-transformers files
            are honoured.
        symbols: bounds of `tokens` and `rows`.
        digest: gives the SHA-256 of the weights file, by which constants are known.

    Raises:
        ArtifactError, ValidationError: leaves of `refusals`, `safetensors`, `json_text`, naming file and
        place.
    """
    found = read_encoder_folder(Path(folder))
    bounds = _bounds(symbols or {}, found)
    return build_encoder(found, bounds, digest(found.weights))


def _bounds(symbols: Mapping[str, int], found: EncoderFolder) -> dict[str, int]:
    for name, bound in symbols.items():
        if name not in DEFAULT_BOUNDS:
            raise SymbolRefused(
                symbol=name, bound=bound, reason=f"the symbols are {', '.join(DEFAULT_BOUNDS)}"
            )
        if not 1 <= bound <= MAX_BOUND:
            raise SymbolRefused(symbol=name, bound=bound, reason=f"a bound is from 1 to {MAX_BOUND}")
    tokens = max(DEFAULT_BOUNDS["tokens"], found.sentence.max_tokens)
    return {**DEFAULT_BOUNDS, "tokens": tokens, **{name: int(bound) for name, bound in symbols.items()}}


def build_encoder(found: EncoderFolder, bounds: Mapping[str, int], weights_digest: str) -> ExecutionGraph:
    """The graph of an encoder whose settings were read.

    Raises:
        WeightRefused, SafetensorsError: the weights are not those of the configuration.
    """
    config = found.config
    builder = GraphBuilder(config.name, bounds)
    weights = WeightIndex(index_safetensors(found.weights), weights_digest, builder, config.family)
    limit = min(config.max_tokens, bounds["tokens"])
    body = _Body(builder=builder, config=config, weights=weights, limit=limit)
    ids = builder.input("token_ids", TensorType(DType.INT32, (symbol("tokens"),)))
    offsets = builder.input("row_offsets", TensorType(DType.INT32, (add(symbol("rows"), 1),)))
    x = body.embed(ids, offsets)
    bias = body.relative_bias()
    for layer in range(config.layers):
        x = body.layer(x, offsets, bias, layer)
    weights.verify_all_used()
    pooling = {"mode": found.sentence.pooling, "max_row_tokens": limit}
    x = builder.add1("packed_pool", (x, offsets), pooling, name="pooled")
    if found.sentence.normalize:
        x = builder.add1("l2_normalize", (x,), {"epsilon": 1e-12}, name="normalised")
    builder.output("embeddings", x)
    return builder.build()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Body:
    """Appends the parts of an encoder to a graph."""

    builder: GraphBuilder
    config: EncoderConfig
    weights: WeightIndex
    limit: int

    def embed(self, ids: TensorID, offsets: TensorID) -> TensorID:
        """Normalised sum of word, position and type vectors: `[tokens, hidden]`."""
        config, weights = self.config, self.weights
        self.builder.source("embeddings")
        inputs = [
            ids, offsets,
            weights.stored("embeddings.word_embeddings.weight", config.vocabulary, config.hidden),
            weights.stored("embeddings.position_embeddings.weight", config.positions, config.hidden),
        ]  # fmt: skip
        if config.token_types:
            name = "embeddings.token_type_embeddings.weight"
            inputs.append(weights.first_row(name, config.token_types, config.hidden))
        attributes = {"position_offset": config.position_offset, "padding_id": config.padding_id}
        x = self.builder.add1("packed_embedding", inputs, attributes, name="embedded")
        return self._normalise(x, "embeddings.LayerNorm", "embedded/normalised")

    def relative_bias(self) -> TensorID | None:
        """The attention bias that all layers share, where the family has one."""
        config = self.config
        if not config.relative_buckets:
            return None
        name = "encoder.relative_attention_bias.weight"
        return self.weights.relative_bias(name, config.relative_buckets, config.heads, self.limit)

    def layer(self, x: TensorID, offsets: TensorID, bias: TensorID | None, number: int) -> TensorID:
        """One layer: `[tokens, hidden]` to the same."""
        names, wish = LAYER_NAMES[self.config.family], f"layer{number}"
        self.builder.source(names.module(number, "").rstrip("."))
        attended = self._attend(x, offsets, bias, names, number)
        x = self.builder.add1("add", (attended, x), name=f"{wish}/attended")
        x = self._normalise(x, names.module(number, names.attention_norm), f"{wish}/attended/normalised")
        inner = self._dense(
            x, (names.module(number, names.feed_in),), self.config.intermediate, f"{wish}/feed_in"
        )
        inner = self.builder.add1(self.config.activation, (inner,), name=f"{wish}/activated")
        fed = self._dense(
            inner, (names.module(number, names.feed_out),), self.config.hidden, f"{wish}/feed_out"
        )
        x = self.builder.add1("add", (fed, x), name=f"{wish}/fed")
        return self._normalise(x, names.module(number, names.output_norm), f"{wish}/output")

    def _attend(
        self, x: TensorID, offsets: TensorID, bias: TensorID | None, names: LayerNames, number: int
    ) -> TensorID:
        wish = f"layer{number}"
        parts = tuple(names.module(number, n) for n in (names.query, names.key, names.value))
        qkv = self._dense(x, parts, self.config.hidden, f"{wish}/qkv")
        inputs = (qkv, offsets) if bias is None else (qkv, offsets, bias)
        attributes = {"heads": self.config.heads, "max_row_tokens": self.limit}
        attended = self.builder.add1("packed_attention", inputs, attributes, name=f"{wish}/attention")
        output = names.module(number, names.attention_output)
        return self._dense(attended, (output,), self.config.hidden, f"{wish}/attention_output")

    def _dense(self, x: TensorID, modules: tuple[str, ...], outputs: int, wish: str) -> TensorID:
        """Linear layers of equal size side by side: `x W + b`."""
        inputs = self.builder.type_of(x).shape[1]
        if not isinstance(inputs, int):
            raise TypeError("the width of an encoder is static")
        weight = self.weights.turned(modules, inputs, outputs)
        product = self.builder.add1("matmul", (x, weight), name=f"{wish}/product")
        return self.builder.add1("add", (product, self.weights.joined(modules, outputs)), name=wish)

    def _normalise(self, x: TensorID, module: str, wish: str) -> TensorID:
        hidden = self.config.hidden
        scale = self.weights.stored(f"{module}.weight", hidden)
        shift = self.weights.stored(f"{module}.bias", hidden)
        attributes = {"axis": -1, "epsilon": self.config.epsilon}
        return self.builder.add1("layer_normalization", (x, scale, shift), attributes, name=wish)
