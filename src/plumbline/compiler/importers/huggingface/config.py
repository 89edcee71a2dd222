"""`config.json` of the BERT family, read strictly.

Every setting is used, known to change nothing for inference, or refused by name. A setting that is unknown
but empty, false or null is taken to be switched off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from plumbline.compiler.importers.huggingface.refusals import ArchitectureUnsupported
from plumbline.compiler.importers.huggingface.settings import SettingsReader

__all__ = ["ACTIVATIONS", "FAMILIES", "EncoderConfig", "read_encoder_config"]

ACTIVATIONS = {
    "gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh", "relu": "relu", "tanh": "tanh",
}  # fmt: skip
"""Names in configurations and the operations that compute them."""

_NEUTRAL = frozenset({
    "architectures", "model_type", "torch_dtype", "dtype", "transformers_version", "gradient_checkpointing",
    "initializer_range", "initializer_factor", "attention_probs_dropout_prob", "hidden_dropout_prob",
    "attention_dropout", "dropout", "seq_classif_dropout", "qa_dropout", "classifier_dropout", "use_cache",
    "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id", "mask_token_id", "unk_token_id",
    "decoder_start_token_id",
    "pad_token_id", "problem_type", "finetuning_task", "task_specific_params", "label2id",
    "id2label",
    "num_labels", "directionality", "language", "name", "model_max_length", "sinusoidal_pos_embds",
    "tie_weights_", "tie_word_embeddings", "summary_type", "summary_activation", "summary_use_proj",
    "summary_proj_to_labels", "summary_first_dropout", "return_dict", "output_past", "attn_implementation",
    "chunk_size_feed_forward", "tokenizer_class", "max_length", "min_length", "do_sample", "num_beams",
    "num_beam_groups",
    "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty",
    "length_penalty", "num_return_sequences", "early_stopping", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "sentence_transformers", "emb_size", "embedding_size",
})  # fmt: skip
"""Settings of training, generation, heads and bookkeeping: none changes what the encoder computes. Sizes
among them are held against the weights."""
_NEUTRAL_PREFIXES = ("_", "pooler_", "output_")
_FIXED = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "is_encoder_decoder": False,
    "torchscript": False,
}
"""Settings that must have the value for which the importer is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """What a configuration decides about an encoder.

    Attributes:
        family: `bert`, `roberta`, `distilbert` or `mpnet`.
        hidden: width of a token.
        layers: number of layers.
        heads: attention heads of a layer.
        intermediate: width inside the feed-forward block.
        activation: operation of the feed-forward block.
        epsilon: of layer normalisation.
        vocabulary: rows of the word table.
        positions: rows of the position table.
        position_offset: row of the first position.
        padding_id: token that is not counted as a position, or None.
        token_types: rows of the type table, 0 where there is none.
        relative_buckets: buckets of the relative attention bias, 0 where there is none.
    """

    family: str
    hidden: int
    layers: int
    heads: int
    intermediate: int
    activation: str
    epsilon: float
    vocabulary: int
    positions: int
    position_offset: int = 0
    padding_id: int | None = None
    token_types: int = 0
    relative_buckets: int = 0

    @property
    def max_tokens(self) -> int:
        """Longest row that has positions."""
        return self.positions - self.position_offset

    @property
    def name(self) -> str:
        """Family and size."""
        return f"{self.family}-{self.layers}x{self.hidden}"


def read_encoder_config(reader: SettingsReader) -> EncoderConfig:
    """Read `config.json`.

    Raises:
        ArchitectureUnsupported: of another family.
        ConfigRefused: naming the setting.
    """
    model_type = reader.text("model_type", "")
    family = FAMILIES.get(model_type)
    if family is None:
        raise ArchitectureUnsupported(
            file=reader.file, architecture=model_type[:80] or "(no model_type)", supported=", ".join(FAMILIES)
        )
    config = family(reader)
    for key, wanted in _FIXED.items():
        if reader.settings.get(key, wanted) != wanted:
            raise reader.refusal(key, f"only {wanted!r} is built")
    _verify_known(reader)
    if config.hidden % config.heads:
        raise reader.refusal("num_attention_heads", f"it does not divide the width {config.hidden}")
    if config.max_tokens < 1:
        raise reader.refusal("max_position_embeddings", "no position is left for a token")
    return config


def _verify_known(reader: SettingsReader) -> None:
    for key, value in reader.settings.items():
        known = key in reader.asked or key in _NEUTRAL or key in _FIXED or key.startswith(_NEUTRAL_PREFIXES)
        if not known and value not in (None, False, {}, [], ""):
            raise reader.refusal(key, "this setting is unknown; it may change what the model computes")


def _activation(reader: SettingsReader, key: str) -> str:
    operation = ACTIVATIONS.get(reader.text(key, "gelu"))
    if operation is None:
        raise reader.refusal(key, f"supported are {', '.join(ACTIVATIONS)}")
    return operation


def _bert(reader: SettingsReader) -> EncoderConfig:
    return EncoderConfig(
        family="bert", hidden=reader.integer("hidden_size"), layers=reader.integer("num_hidden_layers"),
        heads=reader.integer("num_attention_heads"), intermediate=reader.integer("intermediate_size"),
        activation=_activation(reader, "hidden_act"), epsilon=reader.number("layer_norm_eps", 1e-12),
        vocabulary=reader.integer("vocab_size"), positions=reader.integer("max_position_embeddings", 512),
        token_types=reader.integer("type_vocab_size", 2),
    )  # fmt: skip


def _roberta(reader: SettingsReader) -> EncoderConfig:
    padding = reader.integer("pad_token_id", 1, minimum=0)
    return EncoderConfig(
        family="roberta", hidden=reader.integer("hidden_size"), layers=reader.integer("num_hidden_layers"),
        heads=reader.integer("num_attention_heads"), intermediate=reader.integer("intermediate_size"),
        activation=_activation(reader, "hidden_act"), epsilon=reader.number("layer_norm_eps", 1e-12),
        vocabulary=reader.integer("vocab_size"), positions=reader.integer("max_position_embeddings", 512),
        position_offset=padding + 1, padding_id=padding, token_types=reader.integer("type_vocab_size", 2),
    )  # fmt: skip


def _distilbert(reader: SettingsReader) -> EncoderConfig:
    return EncoderConfig(
        family="distilbert", hidden=reader.integer("dim"), layers=reader.integer("n_layers"),
        heads=reader.integer("n_heads"), intermediate=reader.integer("hidden_dim"),
        activation=_activation(reader, "activation"), epsilon=1e-12, vocabulary=reader.integer("vocab_size"),
        positions=reader.integer("max_position_embeddings", 512),
    )  # fmt: skip


def _mpnet(reader: SettingsReader) -> EncoderConfig:
    """The padding token of MPNet's positions is 1 whatever `pad_token_id` says."""
    return EncoderConfig(
        family="mpnet", hidden=reader.integer("hidden_size"), layers=reader.integer("num_hidden_layers"),
        heads=reader.integer("num_attention_heads"), intermediate=reader.integer("intermediate_size"),
        activation=_activation(reader, "hidden_act"), epsilon=reader.number("layer_norm_eps", 1e-12),
        vocabulary=reader.integer("vocab_size"), positions=reader.integer("max_position_embeddings", 512),
        position_offset=2, padding_id=1,
        relative_buckets=reader.integer("relative_attention_num_buckets", 32, minimum=4, maximum=4096),
    )  # fmt: skip


FAMILIES: dict[str, Callable[[SettingsReader], EncoderConfig]] = {
    "bert": _bert,
    "roberta": _roberta, "xlm-roberta": _roberta, "camembert": _roberta, "distilbert": _distilbert,
    "mpnet": _mpnet,
}  # fmt: skip
"""Reader of each `model_type`."""
