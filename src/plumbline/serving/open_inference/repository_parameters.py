"""Parameters of the model repository extension."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from plumbline.serving.open_inference.refusals import ExtensionRefused, NotJson, ParameterRefused

__all__ = ["read_load", "read_object", "read_unload"]

_MOST_CONFIG_CHARACTERS = 65536


def read_load(given: Mapping[str, Any]) -> tuple[str | None, dict[str, Any] | None]:
    """Version and settings to load: `version` names one; `config` is a JSON object of `version.toml` names.

    Raises:
        ParameterRefused, NotJson: a wrong value or an unknown parameter.
        ExtensionRefused: files in the request; models come from the repository only.
    """
    parameters = dict(given)
    version = _text(parameters, "version")
    config = _text(parameters, "config")
    for name in parameters:
        if name.startswith("file:"):
            reason = "model files come from the repository only"
            raise ExtensionRefused(extension="model repository", reason=reason)
        raise ParameterRefused(parameter=name[:64], reason="is not known")
    if config is None:
        return version, None
    if len(config) > _MOST_CONFIG_CHARACTERS:
        raise ParameterRefused(parameter="config", reason=f"longer than {_MOST_CONFIG_CHARACTERS} characters")
    return version, read_object(config.encode("utf-8", "replace"))


def read_unload(given: Mapping[str, Any]) -> str | None:
    """The version to unload, None for all.

    Raises:
        ParameterRefused: a wrong value or an unknown parameter.
    """
    parameters = dict(given)
    version = _text(parameters, "version")
    parameters.pop("unload_dependents", None)
    for name in parameters:
        raise ParameterRefused(parameter=name[:64], reason="is not known")
    return version


def read_object(text: bytes) -> dict[str, Any]:
    """A JSON object. Raises NotJson."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NotJson(reason=str(error)[:200]) from None
    except RecursionError:
        raise NotJson(reason="it is nested too deep") from None


def _text(parameters: dict[str, Any], name: str) -> str | None:
    value = parameters.pop(name, None)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise ParameterRefused(parameter=name, reason="expected text")
    return value
