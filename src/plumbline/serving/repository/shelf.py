"""Rules that every repository keeps about its list of versions, as pure functions of that list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from plumbline.contracts.inference import VersionRef
from plumbline.serving.repository.port import PublishedState, PublishedVersion, RepositoryLimits
from plumbline.serving.repository.refusals import (
    ModelUnknown,
    RepositoryLimitExceeded,
    SettingsRefused,
    VersionExists,
    VersionPinned,
    VersionRetired,
    VersionUnknown,
)

__all__ = ["change_state", "find_version", "verify_new", "verify_revision"]

MAX_REVISION: Final = 256

Shelf = Mapping[VersionRef, PublishedVersion]


def find_version(shelf: Shelf, ref: VersionRef) -> PublishedVersion:
    """The version.

    Raises:
        ModelUnknown, VersionUnknown: saying what is missing.
    """
    version = shelf.get(ref)
    if version is not None:
        return version
    if any(known.model == ref.model for known in shelf):
        raise VersionUnknown(model=ref.model, version=ref.version)
    raise ModelUnknown(model=ref.model)


def verify_revision(revision: str) -> str:
    """The revision itself, when it says something (requirement L3-03).

    Raises:
        SettingsRefused: it is missing, too long or not printable.
    """
    if not revision or len(revision) > MAX_REVISION or not revision.isprintable():
        reason = f"1 to {MAX_REVISION} printable characters must say where the files come from"
        raise SettingsRefused(source="publish", key="revision", reason=reason)
    return revision


def verify_new(shelf: Shelf, version: PublishedVersion, limits: RepositoryLimits) -> PublishedVersion | None:
    """None when the version may be added, the known one when it is the same.

    Raises:
        VersionExists: a version of that name has other content, or is retired.
        RepositoryLimitExceeded: the repository is full.
    """
    ref, known = version.ref, shelf.get(version.ref)
    if known is None:
        if len(shelf) >= limits.max_versions:
            raise RepositoryLimitExceeded(
                what="versions of the repository", found=len(shelf) + 1, limit=limits.max_versions
            )
        return None
    if known.state is PublishedState.RETIRED:
        raise VersionExists(model=ref.model, version=ref.version, reason="it is retired")
    if known.digest != version.digest:
        reason = "it exists with other content, and a published version never changes"
        if known.is_empty:
            reason = f"{known.problem}, and nothing is published into one that is there"
        raise VersionExists(model=ref.model, version=ref.version, reason=reason)
    return known


def change_state(shelf: Shelf, ref: VersionRef, state: PublishedState) -> dict[VersionRef, PublishedVersion]:
    """The versions that change when one gets a state: pinning unpins another of the model.

    Raises:
        VersionRetired, VersionPinned: the change is not possible.
    """
    version = find_version(shelf, ref)
    if version.state is state:
        return {}
    if version.state is PublishedState.RETIRED:
        raise VersionRetired(model=ref.model, version=ref.version)
    if state is PublishedState.RETIRED and version.state is PublishedState.PINNED:
        raise VersionPinned(model=ref.model, version=ref.version)
    changed = {ref: replace(version, state=state)}
    if state is PublishedState.PINNED:
        for other, known in shelf.items():
            if other.model == ref.model and other != ref and known.state is PublishedState.PINNED:
                changed[other] = replace(known, state=PublishedState.PUBLISHED)
    return changed
