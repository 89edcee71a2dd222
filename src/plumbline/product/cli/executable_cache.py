"""The cache of executables that `plumbline.load` uses, as the settings place it."""

from __future__ import annotations

from plumbline.compiler.cache import ArtifactCache
from plumbline.config.settings import read_settings

__all__ = ["open_cache"]


def open_cache() -> ArtifactCache:
    """Open it; the folder is made where it is missing.

    Raises:
        SettingRefused, CacheNotPrivate: it cannot be used.
    """
    settings = read_settings()
    return ArtifactCache(settings.cache_dir / "executables", settings.cache_max_bytes)
