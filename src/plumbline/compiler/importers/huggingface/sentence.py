"""How token vectors become a sentence vector: by sentence-transformers files, or by stated defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from plumbline.compiler.importers.huggingface.refusals import FolderAmbiguous, FolderIncomplete
from plumbline.compiler.importers.huggingface.settings import FILE_BYTES, SettingsReader, read_settings_file
from plumbline.compiler.importers.json_text import read_json

__all__ = ["Modules", "SentenceSettings", "read_modules", "read_sentence_settings"]

_SENTENCE_FILES = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "xlm-roberta", "mpnet", "transformers")
)
_POOLING_MODES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
MAX_MODULES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Modules:
    """The stages of `modules.json`: folder of the transformer, folder of the pooling, and whether vectors are
    normalised. `assumptions` says in sentences what no file decided."""

    transformer: Path
    pooling: Path | None
    normalize: bool
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceSettings:
    """What turns texts into vectors around the encoder.

    Attributes:
        pooling: `mean` or `cls`.
        normalize: whether vectors get length 1.
        max_tokens: longest row, special tokens included; longer texts are truncated.
        lowercase: whether texts are lower-cased before the tokenizer.
        prompt: text put before every text.
        assumptions: sentences that say what no file decided.
    """

    pooling: str
    normalize: bool
    max_tokens: int
    lowercase: bool
    prompt: str
    assumptions: tuple[str, ...]


def read_modules(folder: Path) -> Modules:
    """Read `modules.json` where there is one.

    Raises:
        ConfigRefused: a stage that is not built, or a folder outside the model.
    """
    path = folder / "modules.json"
    if not path.is_file():
        pooling = folder / "1_Pooling"
        assumed = "no modules.json: vectors are normalised"
        found = pooling if (pooling / "config.json").is_file() else None
        return Modules(transformer=folder, pooling=found, normalize=True, assumptions=(assumed,))
    stages = read_json(path, FILE_BYTES)
    reader = SettingsReader(path.name, {"modules": stages})
    if not isinstance(stages, list) or not 1 <= len(stages) <= MAX_MODULES:
        raise reader.refusal("modules", f"a list of 1 to {MAX_MODULES} stages is needed")
    parsed = [_stage(folder, reader, stage) for stage in stages]
    kinds = [kind for kind, _ in parsed]
    if kinds not in (["Transformer"], ["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        found_kinds = ", ".join(kinds)
        raise reader.refusal("modules", f"only Transformer, Pooling, Normalize are built, not {found_kinds}")
    return Modules(
        transformer=parsed[0][1],
        pooling=parsed[1][1] if len(parsed) > 1 else None,
        normalize="Normalize" in kinds,
    )


def _stage(folder: Path, reader: SettingsReader, stage: Any) -> tuple[str, Path]:
    if not isinstance(stage, dict):
        raise reader.refusal("modules", "a stage is an object")
    kind, place = stage.get("type"), stage.get("path", "")
    if not isinstance(kind, str) or not kind.startswith("sentence_transformers."):
        raise reader.refusal("modules", f"stage type {str(kind)[:80]!r} is foreign code")
    windows = PureWindowsPath(place) if isinstance(place, str) else None
    if windows is None or "\0" in place or windows.drive or windows.root or ".." in windows.parts:
        raise reader.refusal("modules", f"path {str(place)[:80]!r} leaves the folder")
    if PurePosixPath(place).is_absolute() or not (folder / place).resolve().is_relative_to(folder.resolve()):
        raise reader.refusal("modules", f"path {place[:80]!r} leaves the folder")
    return kind.rpartition(".")[2], folder / place


def read_sentence_settings(folder: Path, modules: Modules, hidden: int, limit: int) -> SentenceSettings:
    """Read pooling, length, case and prompt.

    Args:
        folder: of the whole model.
        modules: its stages.
        hidden: width of a token vector.
        limit: longest row for which the encoder has positions.

    Raises:
        ConfigRefused, FolderAmbiguous: naming the setting or the files.
    """
    assumptions = list(modules.assumptions)
    pooling = _pooling(modules, hidden, assumptions)
    sentence = _sentence_file(modules.transformer)
    max_tokens = _max_tokens(modules.transformer, sentence, limit, assumptions)
    lowercase = sentence is not None and sentence.flag("do_lower_case", False)
    return SentenceSettings(
        pooling=pooling, normalize=modules.normalize, max_tokens=max_tokens, lowercase=lowercase,
        prompt=_prompt(folder), assumptions=tuple(assumptions),
    )  # fmt: skip


def _pooling(modules: Modules, hidden: int, assumptions: list[str]) -> str:
    if modules.pooling is None:
        assumptions.append("no pooling configuration: the mean of the token vectors is taken")
        return "mean"
    path = modules.pooling / "config.json"
    if not path.is_file():
        needed = "it says how token vectors are pooled"
        raise FolderIncomplete(folder=modules.pooling.name, missing="config.json", needed=needed)
    reader = read_settings_file(path)
    label = f"{modules.pooling.name}/config.json"
    reader.file = label
    width = reader.integer("word_embedding_dimension", hidden)
    if width != hidden:
        raise reader.refusal("word_embedding_dimension", f"the encoder has width {hidden}")
    if not reader.flag("include_prompt", True):
        raise reader.refusal("include_prompt", "pooling without the prompt is not built")
    return _pooling_mode(reader)


def _pooling_mode(reader: SettingsReader) -> str:
    if "pooling_mode" in reader.settings:
        mode = reader.text("pooling_mode")
        if mode not in _POOLING_MODES.values():
            raise reader.refusal("pooling_mode", "mean and cls are built")
        return mode
    chosen = [key for key in reader.settings if key.startswith("pooling_mode_") and reader.flag(key, False)]
    if len(chosen) != 1 or chosen[0] not in _POOLING_MODES:
        key = next((k for k in chosen if k not in _POOLING_MODES), "pooling_mode_mean_tokens")
        raise reader.refusal(
            key, f"exactly one of {', '.join(_POOLING_MODES)} is built, not {', '.join(chosen) or 'none'}"
        )
    return _POOLING_MODES[chosen[0]]


def _sentence_file(folder: Path) -> SettingsReader | None:
    found = [name for name in _SENTENCE_FILES if (folder / name).is_file()]
    if len(found) > 1:
        raise FolderAmbiguous(folder=folder.name, what="sentence configurations", choices=", ".join(found))
    return read_settings_file(folder / found[0]) if found else None


def _max_tokens(folder: Path, sentence: SettingsReader | None, limit: int, assumptions: list[str]) -> int:
    if sentence is not None and sentence.settings.get("max_seq_length") is not None:
        wanted, source = sentence.integer("max_seq_length"), sentence.file
    else:
        wanted, source = _tokenizer_limit(folder, limit), "tokenizer_config.json"
        assumptions.append(f"no max_seq_length: texts are truncated to {min(wanted, limit)} tokens")
    if wanted > limit:
        assumptions.append(f"{source} allows {wanted} tokens, the position table {limit}: {limit} are used")
    return min(wanted, limit)


def _tokenizer_limit(folder: Path, limit: int) -> int:
    """`model_max_length`, which stands for "no limit" where it is astronomically large or a float."""
    path = folder / "tokenizer_config.json"
    value = read_settings_file(path).settings.get("model_max_length") if path.is_file() else None
    return value if type(value) is int and 1 <= value <= 10**9 else limit


def _prompt(folder: Path) -> str:
    path = folder / "config_sentence_transformers.json"
    if not path.is_file():
        return ""
    reader = read_settings_file(path)
    if reader.settings.get("truncate_dim") is not None:
        raise reader.refusal("truncate_dim", "shortened vectors are not built")
    name, prompts = reader.settings.get("default_prompt_name"), reader.settings.get("prompts") or {}
    if name is None:
        return ""
    prompt = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else None
    if not isinstance(prompt, str):
        raise reader.refusal("default_prompt_name", "there is no prompt of that name")
    return prompt
