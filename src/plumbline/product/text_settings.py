"""How texts become tokens, written beside a compiled encoder, so that the folder loads by itself.

    text.json        lengths, case, prompt, assumptions
    tokenizer.json   the tokenizer of the model, as it was

Both are data from wherever the folder came from: read under limits, held against the executable.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from plumbline.engine.tokenization import FILE_BYTES, TextSettings
from plumbline.errors import ArtifactError
from plumbline.execution.artifact import Manifest

__all__ = ["TextSettingsRefused", "carry_text_settings", "read_text_settings"]

SETTINGS_FILE, TOKENIZER_FILE = "text.json", "tokenizer.json"
MAX_BYTES = 1 << 20
_Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]
_Text = Annotated[str, msgspec.Meta(max_length=1 << 16)]


@dataclass(eq=False, kw_only=True)
class TextSettingsRefused(ArtifactError):
    """The text settings of a compiled encoder are damaged or do not belong to it."""

    code = "artifact.text_settings"
    owner = "product"
    template = "compiled artifact {artifact!r}, {file}: {reason}"

    artifact: str
    file: str
    reason: str


class TextDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`text.json`."""

    schema_version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    max_tokens: _Count
    vocabulary: _Count
    lowercase: bool
    prompt: _Text
    assumptions: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=256)]


def carry_text_settings(folder: Path, settings: TextSettings) -> None:
    """Write both files into the folder of an executable."""
    document = TextDocument(
        schema_version=1, max_tokens=settings.max_tokens, vocabulary=settings.vocabulary,
        lowercase=settings.lowercase, prompt=settings.prompt, assumptions=settings.assumptions,
    )  # fmt: skip
    (folder / SETTINGS_FILE).write_bytes(msgspec.json.encode(document))
    shutil.copyfile(settings.tokenizer, folder / TOKENIZER_FILE)


def read_text_settings(folder: Path, manifest: Manifest) -> TextSettings | None:
    """The settings of an executable, or None where it is no encoder.

    Raises:
        TextSettingsRefused: a file is damaged, missing or too large, or the executable takes no packed texts.
    """
    path = folder / SETTINGS_FILE
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _refused(folder, SETTINGS_FILE, f"larger than {MAX_BYTES} bytes")
        document = msgspec.json.decode(path.read_bytes(), type=TextDocument)
        tokenizer = folder / TOKENIZER_FILE
        if not tokenizer.is_file() or tokenizer.stat().st_size > FILE_BYTES:
            raise _refused(folder, TOKENIZER_FILE, "it is missing or too large")
    except (msgspec.MsgspecError, OSError, UnicodeDecodeError, RecursionError) as error:
        raise _refused(folder, SETTINGS_FILE, str(error)[:200]) from error
    _verify_encoder(folder, manifest)
    return TextSettings(
        tokenizer=tokenizer, max_tokens=document.max_tokens, vocabulary=document.vocabulary,
        lowercase=document.lowercase, prompt=document.prompt, assumptions=document.assumptions,
    )  # fmt: skip


def _verify_encoder(folder: Path, manifest: Manifest) -> None:
    inputs, outputs = ({b.name for b in ports} for ports in (manifest.inputs, manifest.outputs))
    fits = inputs == {"token_ids", "row_offsets"} and outputs == {"embeddings"}
    if not fits or not {"tokens", "rows"} <= set(manifest.symbols) or len(manifest.outputs[0].shape) != 2:
        raise _refused(folder, SETTINGS_FILE, "the executable beside it takes no packed texts")


def _refused(folder: Path, file: str, reason: str) -> TextSettingsRefused:
    return TextSettingsRefused(artifact=folder.name, file=file, reason=reason)
