"""Reading settings from a JSON object of an untrusted file, with typed refusals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plumbline.compiler.importers.huggingface.refusals import ConfigRefused
from plumbline.compiler.importers.json_text import read_json

__all__ = ["SettingsReader", "read_settings_file"]

FILE_BYTES = 4 * 2**20
"""Largest settings file; label tables of classifiers make them long."""


class SettingsReader:
    """Typed access to the settings of one file. Remembers which were asked for."""

    def __init__(self, file: str, settings: Mapping[str, Any]) -> None:
        self.file, self.settings = file, settings
        self.asked: set[str] = set()

    def integer(
        self, key: str, default: int | None = None, *, minimum: int = 1, maximum: int = 2**31 - 1
    ) -> int:
        """A whole number within limits.

        Raises:
            ConfigRefused: it is missing without a default, or is something else.
        """
        value = self._get(key, default)
        if type(value) is not int or not minimum <= value <= maximum:
            raise self.refusal(key, f"a whole number from {minimum} to {maximum} is needed")
        return value

    def number(self, key: str, default: float) -> float:
        """A positive number."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < 1.0:
            raise self.refusal(key, "a number between 0 and 1 is needed")
        return float(value)

    def text(self, key: str, default: str | None = None) -> str:
        """A text."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.refusal(key, "a text is needed")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """A yes or no; null counts as the default."""
        value = self._get(key, default)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refusal(key, "true or false is needed")
        return value

    def refusal(self, key: str, reason: str) -> ConfigRefused:
        """An error that shows the setting."""
        value = str(self.settings[key])[:80] if key in self.settings else "(missing)"
        return ConfigRefused(file=self.file, key=key, value=value, reason=reason)

    def _get(self, key: str, default: Any) -> Any:
        self.asked.add(key)
        return self.settings.get(key, default)


def read_settings_file(path: Path) -> SettingsReader:
    """Open a settings file.

    Raises:
        UnreadableFileError, ImportLimitError, MalformedJsonError: it cannot be read.
        ConfigRefused: it is not a JSON object.
    """
    found = read_json(path, FILE_BYTES)
    if not isinstance(found, dict):
        raise ConfigRefused(
            file=path.name, key="(file)", value=type(found).__name__, reason="an object is needed"
        )
    return SettingsReader(path.name, found)
