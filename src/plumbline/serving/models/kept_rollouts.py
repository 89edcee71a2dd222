"""`KeptRollouts`: what became of canaries, in a file that outlives the server.

A pin and a retirement are said by a publisher and are in the repository. That a version was rolled back, or
that an older one was promoted before it, was found out here: it is kept in the state folder of this server. A
version counts as the one that was kept when its content has the same digest.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from plumbline.errors import ArtifactError
from plumbline.serving.models.rollout import RolloutState

__all__ = ["KeptModel", "KeptRollout", "KeptRollouts", "KeptRolloutsDamaged"]

_SCHEMA = 1
_LARGEST_BYTES = 64 << 20


@dataclass(eq=False, kw_only=True)
class KeptRolloutsDamaged(ArtifactError):
    """The file of canaries is not what a server wrote. Going on would serve what was rolled back."""

    code = "artifact.kept_rollouts"
    owner = "serving.models"
    template = "{file} in the state folder: {reason}; remove it to forget which canaries were rolled back"

    file: str
    reason: str


class KeptRollout(msgspec.Struct, frozen=True, kw_only=True):
    """The canary of a model that ran or ended last; the fields of `rollout.Rollout` and its share."""

    canary: str
    base: str
    share: float
    state: RolloutState
    reason: str
    since_wall_ns: int


class KeptModel(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one model: `held`, version to digest, and its last canary."""

    held: dict[str, str] = {}
    rollout: KeptRollout | None = None


class _File(msgspec.Struct, frozen=True, kw_only=True):
    schema: int
    models: dict[str, KeptModel]


class KeptRollouts:
    """Owner of the file. Used on one event loop.

    Args:
        path: of the file, in a folder that is there; None keeps nothing beyond this process.

    Raises:
        KeptRolloutsDamaged: there is a file, and it cannot be read.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._models = {} if path is None else _read(path)
        self._failure = ""

    def models(self) -> Mapping[str, KeptModel]:
        """Everything that is kept, by model."""
        return self._models

    def trouble(self) -> str:
        """Why the last change was not written, or an empty text."""
        return self._failure

    def keep(self, model: str, kept: KeptModel) -> None:
        """Replace what is kept of a model: in the file as a whole, or not at all (`trouble` says why)."""
        self._models[model] = kept
        if not kept.held and kept.rollout is None:
            del self._models[model]
        if self._path is None:
            return
        try:
            _write(self._path, msgspec.json.encode(_File(schema=_SCHEMA, models=self._models)))
            self._failure = ""
        except OSError as error:
            self._failure = error.strerror or type(error).__name__


def _read(path: Path) -> dict[str, KeptModel]:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise KeptRolloutsDamaged(file=path.name, reason=f"larger than {_LARGEST_BYTES} bytes")
        found = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise KeptRolloutsDamaged(file=path.name, reason=error.strerror or "it cannot be read") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeptRolloutsDamaged(file=path.name, reason=str(error)[:200]) from error
    if found.schema != _SCHEMA:
        reason = f"schema {found.schema}, this version reads {_SCHEMA}"
        raise KeptRolloutsDamaged(file=path.name, reason=reason)
    return found.models


def _write(path: Path, content: bytes) -> None:
    unnamed = path.with_name(f"{path.name}.new")
    file = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unnamed, path)
    except OSError:
        unnamed.unlink(missing_ok=True)
        raise
