"""Why a version, or a model of which none serves, gives no answer."""

from __future__ import annotations

from typing import Final

from plumbline.contracts.models import VersionState
from plumbline.errors import PlumblineError
from plumbline.serving.models.lifecycle import IN_PROGRESS
from plumbline.serving.models.refusals import NoVersionLoaded, VersionLoading, VersionNotReady
from plumbline.serving.models.served import ServedModel, ServedVersion
from plumbline.serving.repository.refusals import ModelUnknown, VersionRetired

__all__ = ["why_not"]

_NAMED: Final = 5
"""Versions that a refusal names; the others are counted."""


def why_not(model: ServedModel, version: ServedVersion | None) -> PlumblineError:
    """The refusal of a request.

    Args:
        model: that is asked.
        version: that would have to answer; None where the request leaves it open and none is ready.
    """
    return _of_model(model) if version is None else _of_version(version)


def _of_model(model: ServedModel) -> PlumblineError:
    """The version that may answer soon, or else the newest that says what is wrong, or else all there are."""
    versions = list(model.versions.values())
    if not versions:
        return ModelUnknown(model=model.name)
    alive = [v for v in versions if v.life.state is not VersionState.RETIRED]
    shown = next((v for v in versions if _is_on_its_way(v)), None) or next(iter(alive), None)
    if shown is not None and (len(versions) == 1 or _is_on_its_way(shown) or _trouble(shown)):
        return _of_version(shown)
    if len(versions) == 1:
        return _of_version(versions[0])
    named = [f"{v.ref.version} is {_in_words(v)}" for v in versions[:_NAMED]]
    more = f" and {len(versions) - _NAMED} more" if len(versions) > _NAMED else ""
    return NoVersionLoaded(model=model.name, versions=", ".join(named) + more)


def _of_version(version: ServedVersion) -> PlumblineError:
    ref = version.ref
    if _is_on_its_way(version):
        return VersionLoading(model=ref.model, version=ref.version, state=_in_words(version))
    if version.life.state is VersionState.RETIRED:
        return VersionRetired(model=ref.model, version=ref.version)
    why = _trouble(version)
    reason = f": {why}" if why else ""
    return VersionNotReady(model=ref.model, version=ref.version, state=_in_words(version), reason=reason)


def _is_on_its_way(version: ServedVersion) -> bool:
    return version.waits or version.life.state in IN_PROGRESS


def _trouble(version: ServedVersion) -> str:
    return version.life.reason or version.published.problem


def _in_words(version: ServedVersion) -> str:
    if version.waits:
        return "waiting for its turn"
    return "not loaded" if version.life.state is VersionState.FOUND else version.life.state.value
