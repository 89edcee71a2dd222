"""The files of a sentence encoder: which are used, and what their settings say. No weight is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plumbline.compiler.importers.huggingface.config import EncoderConfig, read_encoder_config
from plumbline.compiler.importers.huggingface.refusals import FolderAmbiguous, FolderIncomplete
from plumbline.compiler.importers.huggingface.sentence import (
    SentenceSettings,
    read_modules,
    read_sentence_settings,
)
from plumbline.compiler.importers.huggingface.settings import read_settings_file

__all__ = ["EncoderFolder", "read_encoder_folder", "settings_files"]

MAX_FILES = 4096
_OTHER_WEIGHTS = ("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "model.onnx", "rust_model.ot")
_SLOW_TOKENIZERS = ("vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderFolder:
    """A sentence encoder on disk.

    Attributes:
        folder: as given.
        config: of the encoder.
        sentence: pooling, length, case and prompt.
        weights: the safetensors file.
        tokenizer: the tokenizer file.
    """

    folder: Path
    config: EncoderConfig
    sentence: SentenceSettings
    weights: Path
    tokenizer: Path


def read_encoder_folder(folder: Path) -> EncoderFolder:
    """Find and read the settings of a sentence encoder.

    Raises:
        FolderIncomplete: a file is missing.
        FolderAmbiguous: naming the choices.
        ArchitectureUnsupported, ConfigRefused: what is not built.
        UnreadableFileError, ImportLimitError, MalformedJsonError: damaged settings.
    """
    modules = read_modules(folder)
    inner = modules.transformer
    if not (inner / "config.json").is_file():
        raise FolderIncomplete(folder=inner.name, missing="config.json", needed="it says what the model is")
    config = read_encoder_config(read_settings_file(inner / "config.json"))
    sentence = read_sentence_settings(folder, modules, config.hidden, config.max_tokens)
    return EncoderFolder(
        folder=folder, config=config, sentence=sentence, weights=_find_weights(inner),
        tokenizer=_find_tokenizer(inner),
    )  # fmt: skip


def settings_files(folder: Path) -> tuple[Path, ...]:
    """Every file of a model folder and of the folders directly in it, sorted: what a build may depend on.

    Raises:
        FolderAmbiguous: there are absurdly many, so this is no model folder.
    """
    found = [p for p in (*folder.glob("*"), *folder.glob("*/*")) if p.is_file()]
    if len(found) > MAX_FILES:
        raise FolderAmbiguous(
            folder=folder.name, what="files", choices=f"{len(found)}, more than {MAX_FILES}"
        )
    return tuple(sorted(p for p in found if p.stat().st_size))


def _find_weights(folder: Path) -> Path:
    names = sorted(p.name for p in folder.glob("*.safetensors"))
    if (folder / "model.safetensors.index.json").is_file():
        needed = "the weights in one model.safetensors; sharded weights are not read"
        raise FolderIncomplete(folder=folder.name, missing="single safetensors file", needed=needed)
    if len(names) > 1:
        raise FolderAmbiguous(folder=folder.name, what="weight files", choices=", ".join(names[:16]))
    if not names:
        other = [name for name in _OTHER_WEIGHTS if (folder / name).is_file()]
        needed = "the weights as model.safetensors are needed" + (
            f", {', '.join(other)} is not read" if other else ""
        )
        raise FolderIncomplete(folder=folder.name, missing="model.safetensors", needed=needed)
    return folder / names[0]


def _find_tokenizer(folder: Path) -> Path:
    names = sorted(p.name for p in folder.glob("*tokenizer*.json") if p.name != "tokenizer_config.json")
    if len(names) > 1:
        raise FolderAmbiguous(folder=folder.name, what="tokenizers", choices=", ".join(names[:16]))
    if not names:
        slow = [name for name in _SLOW_TOKENIZERS if (folder / name).is_file()]
        needed = "tokenizer.json is needed" + (
            f"; {', '.join(slow)} alone does not say it all" if slow else ""
        )
        raise FolderIncomplete(folder=folder.name, missing="tokenizer.json", needed=needed)
    return folder / names[0]
