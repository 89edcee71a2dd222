"""What a version is made of, decided by the names of its files; nothing is guessed (requirement L3-05).

    model.onnx                                             a model
    NAME.graph                                             a model in graph text
    config.json, *.safetensors and tokenizer.json          a text encoder
    pipeline.toml                                          a pipeline
    version.toml with entry = "FILE.py:CLASS"              a Python class
    version.toml with entry = "FILE"                       a model of any name and registered format

Exactly one of them, or an `entry` in `version.toml` that names the one to take. Whether a format can be read
is the importer's to say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from plumbline.contracts.models import VersionKind
from plumbline.serving.repository.refusals import EntryAmbiguous, SettingsRefused

__all__ = ["PIPELINE_FILE", "SETTINGS_FILE", "decide_kind", "find_choices"]

PIPELINE_FILE = "pipeline.toml"
SETTINGS_FILE = "version.toml"
_EXPECTED = (
    "model.onnx, NAME.graph, config.json + *.safetensors + tokenizer.json, pipeline.toml, "
    "or entry in version.toml"
)
_PYTHON_ENTRY = re.compile(r"(?P<file>[A-Za-z_][A-Za-z0-9_]*\.py):[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def find_choices(names: Sequence[str]) -> dict[str, VersionKind]:
    """Everything that could be served from top-level files of these names: entry -> kind.

    >>> find_choices(["model.onnx", "README.md"])
    {'model.onnx': <VersionKind.MODEL: 'model'>}
    """
    choices: dict[str, VersionKind] = {}
    for name in sorted(names):
        if name == "model.onnx" or (name.endswith(".graph") and name != ".graph"):
            choices[name] = VersionKind.MODEL
    if {"config.json", "tokenizer.json"} <= set(names) and any(n.endswith(".safetensors") for n in names):
        choices["."] = VersionKind.TEXT
    if PIPELINE_FILE in names:
        choices[PIPELINE_FILE] = VersionKind.PIPELINE
    if SETTINGS_FILE in names and not choices:
        choices[SETTINGS_FILE] = VersionKind.PYTHON
    return choices


def decide_kind(paths: Sequence[str], entry: str | None, *, subject: str) -> tuple[VersionKind, str]:
    """Kind and entry of a version.

    Args:
        paths: of its files, relative.
        entry: as `version.toml` says it, or None.
        subject: for messages.

    Raises:
        EntryAmbiguous: none or several, with the choices.
        SettingsRefused: `entry` names nothing that is there.
    """
    top = [path for path in paths if "/" not in path]
    choices = find_choices(top)
    choices.pop(SETTINGS_FILE, None)
    if entry is not None:
        return _entry_kind(top, choices, entry, subject)
    if len(choices) == 1:
        ((name, kind),) = choices.items()
        return kind, name
    if not choices:
        raise EntryAmbiguous(subject=subject, reason="it holds nothing that can be served", choices=_EXPECTED)
    listed = ", ".join("encoder folder (entry '.')" if name == "." else name for name in choices)
    reason = "several things could be served; say which as entry in version.toml"
    raise EntryAmbiguous(subject=subject, reason=reason, choices=listed)


def _entry_kind(
    top: Sequence[str], choices: dict[str, VersionKind], entry: str, subject: str
) -> tuple[VersionKind, str]:
    if entry in choices:
        return choices[entry], entry
    found = _PYTHON_ENTRY.fullmatch(entry)
    if found and found["file"] in top:
        return VersionKind.PYTHON, entry
    if entry in top and entry != SETTINGS_FILE and not entry.endswith(".py"):
        return VersionKind.MODEL, entry
    known = ", ".join([*choices, *(f"{name}:CLASS" for name in top if name.endswith(".py"))]) or "none"
    reason = f"{entry[:80]!r} names nothing that is there; choices: {known}"
    raise SettingsRefused(source=f"{subject} {SETTINGS_FILE}", key="entry", reason=reason)
