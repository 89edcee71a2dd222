"""Settings of this process, read once from the environment.

| variable | meaning | default |
|---|---|---|
| `PLUMBLINE_API_KEY` | key that commands show to a server | none |
| `PLUMBLINE_CACHE_DIR` | executables and digests | `$XDG_CACHE_HOME/plumbline`, `~/.cache/plumbline` |
| `PLUMBLINE_CACHE_MAX_BYTES` | most bytes that executables may take | 8 GiB |
| `PLUMBLINE_STATE_DIR` | stores, server logs | `$XDG_STATE_HOME/plumbline`, `~/.local/state/plumbline` |
| `PLUMBLINE_TARGET` | instruction set to compile for: `avx512`, `avx2`, `neon` | the widest of this machine |
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from plumbline.errors import ValidationError

__all__ = ["SettingRefused", "Settings", "read_settings"]

DEFAULT_CACHE_MAX_BYTES = 8 << 30


@dataclass(eq=False, kw_only=True)
class SettingRefused(ValidationError):
    """An environment variable has a value that cannot be used."""

    code = "validation.setting"
    owner = "config"
    template = "{variable}={value!r}: {reason}"

    variable: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the environment decides."""

    cache_dir: Path
    state_dir: Path
    cache_max_bytes: int = DEFAULT_CACHE_MAX_BYTES
    target: str | None = None
    api_key: str | None = field(default=None, repr=False)


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read settings.

    Raises:
        SettingRefused: a value is not usable.
    """
    env = os.environ if environment is None else environment
    return Settings(
        cache_dir=_cache_dir(env),
        state_dir=_state_dir(env),
        cache_max_bytes=_bytes(env, "PLUMBLINE_CACHE_MAX_BYTES", DEFAULT_CACHE_MAX_BYTES),
        target=env.get("PLUMBLINE_TARGET") or None,
        api_key=env.get("PLUMBLINE_API_KEY") or None,
    )


def _cache_dir(env: Mapping[str, str]) -> Path:
    if env.get("PLUMBLINE_CACHE_DIR"):
        return Path(env["PLUMBLINE_CACHE_DIR"]).expanduser()
    base = env.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "plumbline"


def _state_dir(env: Mapping[str, str]) -> Path:
    if env.get("PLUMBLINE_STATE_DIR"):
        return Path(env["PLUMBLINE_STATE_DIR"]).expanduser()
    base = env.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "plumbline"


def _bytes(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name)
    if not text:
        return default
    if not text.isdigit() or int(text) == 0:
        raise SettingRefused(variable=name, value=text, reason="expected a positive number of bytes")
    return int(text)
