"""The user's own cache of executables: a private folder, one sub-folder per key, bounded in bytes.

Only what lies here is run without being made again. The folder must belong to this user and be closed to
others.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import FunctionType
from typing import Any

from plumbline.errors import ArtifactError, ResourceError

__all__ = [
    "ArtifactCache",
    "CacheEntry",
    "CacheNotPrivate",
    "CacheTooSmall",
    "cache_key",
    "source_fingerprint",
]

DEFAULT_MAX_BYTES = 8 << 30
_GENERATOR = ("contracts", "kernels", "compiler", "execution")
"""Packages that decide what is emitted."""


@dataclass(eq=False, kw_only=True)
class CacheNotPrivate(ArtifactError):
    """The cache folder belongs to someone else or lets others write: native code in it cannot be trusted."""

    code = "artifact.cache_not_private"
    owner = "compiler"
    template = "the cache folder {folder!r} is not private: {reason}"

    folder: str
    reason: str


@dataclass(eq=False, kw_only=True)
class CacheTooSmall(ResourceError):
    """One executable is larger than the whole cache allows."""

    code = "resource.cache_size"
    owner = "compiler"
    template = "the executable takes {size_bytes} bytes, the cache allows {max_bytes}"

    size_bytes: int
    max_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """One executable in the cache."""

    key: str
    path: Path
    size_bytes: int
    used_at: float


class ArtifactCache:
    """Executables by key. Entries appear whole or not at all; the least recently used go first.

    Args:
        root: folder of the cache; made with mode 0700.
        max_bytes: most bytes that all entries together may take.

    Raises:
        CacheNotPrivate: the folder exists and is open to others.
    """

    def __init__(self, root: Path, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.root, self.max_bytes = root, max_bytes
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _verify_private(root)

    def find(self, key: str) -> Path | None:
        """Folder of an entry, or None. Marks it as used."""
        path = self.root / key
        if not (path / "manifest.json").is_file():
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return path

    @contextlib.contextmanager
    def make(self, key: str) -> Iterator[Path]:
        """A private folder to fill; it becomes the entry when the block ends without an error."""
        staging = Path(tempfile.mkdtemp(prefix=".making-", dir=self.root))
        try:
            yield staging
            size = _folder_bytes(staging)
            if size > self.max_bytes:
                raise CacheTooSmall(size_bytes=size, max_bytes=self.max_bytes)
            target = self.root / key
            try:
                staging.rename(target)
            except OSError:
                if not (target / "manifest.json").is_file():
                    raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        self.collect(keep=key)

    def entries(self) -> tuple[CacheEntry, ...]:
        """All entries, most recently used first."""
        found = [
            CacheEntry(key=p.name, path=p, size_bytes=_folder_bytes(p), used_at=p.stat().st_mtime)
            for p in self.root.iterdir()
            if p.is_dir() and not p.name.startswith(".")
        ]
        return tuple(sorted(found, key=lambda e: (-e.used_at, e.key)))

    def collect(self, keep: str | None = None, max_bytes: int | None = None) -> tuple[CacheEntry, ...]:
        """Remove the least recently used entries until the rest fits; returns what was removed.

        Args:
            keep: an entry that stays whatever its age.
            max_bytes: limit for this call (default: the cache's own).
        """
        limit = self.max_bytes if max_bytes is None else max_bytes
        total, removed = 0, []
        for entry in sorted(self.entries(), key=lambda e: e.key != keep):
            total += entry.size_bytes
            if total > limit and entry.key != keep:
                shutil.rmtree(entry.path, ignore_errors=True)
                removed.append(entry)
                total -= entry.size_bytes
        self._remove_abandoned()
        return tuple(removed)

    def _remove_abandoned(self) -> None:
        """Folders that a killed build left behind an hour ago or earlier."""
        for path in self.root.glob(".making-*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > 3600:
                    shutil.rmtree(path, ignore_errors=True)


def cache_key(parts: Mapping[str, Any]) -> str:
    """A key from everything that the code depends on."""
    text = "\n".join(f"{name}={parts[name]!r}" for name in sorted(parts))
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def source_fingerprint() -> str:
    """Digest of the code generator: names, sizes and times of the sources that decide what is emitted.

    Sources of plug-ins count with their whole package. Code without a source file (typed at a prompt) gives a
    digest of this process alone: no other process finds what was made with it.
    """
    seen = hashlib.sha256(_built_in_fingerprint().encode())
    for function in _plugin_functions():
        place = Path(function.__code__.co_filename)
        if not place.is_file():
            seen.update(f"{function.__qualname__} {id(function)} {_process_token()}\n".encode())
            continue
        for path in _sources_beside(place):
            seen.update(_identity(path, str(path)))
    return seen.hexdigest()[:16]


@lru_cache(maxsize=1)
def _built_in_fingerprint() -> str:
    package = Path(__file__).resolve().parent.parent
    seen = hashlib.sha256()
    for part in _GENERATOR:
        for path in sorted((package / part).rglob("*.py")):
            seen.update(_identity(path, str(path.relative_to(package))))
    return seen.hexdigest()


def _identity(path: Path, name: str) -> bytes:
    status = path.stat()
    return f"{name} {status.st_size} {status.st_mtime_ns}\n".encode()


@lru_cache(maxsize=1)
def _process_token() -> str:
    return os.urandom(16).hex()


def _plugin_functions() -> tuple[FunctionType, ...]:
    """Functions of operations, converters and formats that others registered, in a fixed order.

    A registry that is not loaded yet holds none, and stays unloaded: opening a cached
    executable needs neither.
    """
    found: list[Any] = []
    registry = sys.modules.get("plumbline.kernels.registry")
    for contract in registry.registered_operations() if registry is not None else ():
        kernel = type(contract.kernel)
        found += [
            contract.infer,
            contract.reference,
            getattr(kernel, "work", None),
            getattr(kernel, "emit", None),
        ]
    converters = sys.modules.get("plumbline.compiler.importers.onnx.registry")
    found += converters.registered_converters() if converters is not None else ()
    formats = sys.modules.get("plumbline.compiler.importers.formats")
    found += [f.read for f in formats.registered_formats()] if formats is not None else ()
    plain = (_plain_function(f) for f in found if f is not None)
    outside = {f for f in plain if f is not None and not _is_generator(f.__module__)}
    return tuple(sorted(outside, key=lambda f: (f.__code__.co_filename, f.__qualname__, id(f))))


def _plain_function(function: Any) -> FunctionType | None:
    """The function below partial applications, wrappers, methods and callable objects."""
    while isinstance(function, partial):
        function = function.func
    function = inspect.unwrap(function)
    function = getattr(function, "__func__", function)
    if not isinstance(function, FunctionType):
        function = inspect.getattr_static(type(function), "__call__", None)
    return function if isinstance(function, FunctionType) else None


def _is_generator(module: str | None) -> bool:
    return (module or "").startswith(tuple(f"plumbline.{part}." for part in _GENERATOR))


def _sources_beside(path: Path) -> list[Path]:
    """A source with all sources of its outermost package."""
    top = path.parent
    if not (top / "__init__.py").is_file():
        return [path]
    while (top.parent / "__init__.py").is_file():
        top = top.parent
    return sorted(top.rglob("*.py"))


def _verify_private(folder: Path) -> None:
    status = folder.stat()
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        raise CacheNotPrivate(folder=folder.name, reason="it belongs to another user")
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise CacheNotPrivate(folder=folder.name, reason="others may write to it")


def _folder_bytes(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.iterdir() if p.is_file())
