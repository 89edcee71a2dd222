"""Models and their versions at this server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path

from plumbline.contracts.clock import rfc3339
from plumbline.contracts.models import ModelMetadata, TensorSpec, VersionState, VersionStatus
from plumbline.errors import ValidationError
from plumbline.serving.api.caller import ModelOperator, Parts, Reader
from plumbline.serving.api.parts import CanaryService, NativeParts, PublicationService
from plumbline.serving.api.problems import NotOffered, errors
from plumbline.serving.api.refusals import ModelUnknown
from plumbline.serving.api.schemas.resources import (
    CanaryBody,
    Document,
    LoadBody,
    ModelDocument,
    ModelList,
    UnloadBody,
    VersionDocument,
)

__all__ = ["router"]

router = APIRouter(prefix="/models", tags=["models"])

_Name = Annotated[str, Path(min_length=1, max_length=256)]
_Version = Annotated[str, Path(min_length=1, max_length=64)]


@router.get("", responses=errors(), summary="Every model")
async def list_models(parts: Parts, caller: Reader) -> ModelList:
    """With the state of each version."""
    versions: dict[str, list[VersionStatus]] = {}
    for status in parts.models.statuses():
        versions.setdefault(status.ref.model, []).append(status)
    return ModelList(models=[_document(parts, name, versions[name]) for name in sorted(versions)])


@router.get("/{model}", responses=errors(404), summary="One model")
async def read_model(model: _Name, parts: Parts, caller: Reader) -> ModelDocument:
    """With the interface and the memory of each ready version."""
    return _model(parts, model)


@router.get("/{model}/versions", responses=errors(404), summary="The versions of a model")
async def list_versions(model: _Name, parts: Parts, caller: Reader) -> list[VersionDocument]:
    """In the order of the directory."""
    return _model(parts, model).versions


@router.get("/{model}/versions/{version}", responses=errors(404), summary="One version")
async def read_version(model: _Name, version: _Version, parts: Parts, caller: Reader) -> VersionDocument:
    """Its state, interface and memory."""
    return _found(parts, model, version)


@router.post("/{model}/load", responses=errors(404, 409), summary="Load a version")
async def load_model(model: _Name, body: LoadBody, parts: Parts, caller: ModelOperator) -> ModelDocument:
    """Answers when it is ready: after a real inference."""
    await parts.models.load(model, body.version, body.settings)
    return _model(parts, model)


@router.post("/{model}/unload", responses=errors(404, 409), summary="Unload a version")
async def unload_model(model: _Name, body: UnloadBody, parts: Parts, caller: ModelOperator) -> ModelDocument:
    """Answers when its memory is given back."""
    await parts.models.unload(model, body.version)
    return _model(parts, model)


@router.put("/{model}/versions/{version}/pin", responses=errors(404, 409), summary="Pin a version")
async def pin_version(
    model: _Name, version: _Version, parts: Parts, caller: ModelOperator
) -> VersionDocument:
    """It gets all requests that name none, whatever else becomes ready; another pin of the model moves."""
    await _publication(parts).pin(model, version)
    return _found(parts, model, version)


@router.delete("/{model}/versions/{version}/pin", responses=errors(404, 409), summary="Unpin a version")
async def unpin_version(
    model: _Name, version: _Version, parts: Parts, caller: ModelOperator
) -> VersionDocument:
    """The newest ready version gets those requests again."""
    await _publication(parts).unpin(model, version)
    return _found(parts, model, version)


@router.post("/{model}/versions/{version}/retire", responses=errors(404, 409), summary="Retire a version")
async def retire_version(
    model: _Name, version: _Version, parts: Parts, caller: ModelOperator
) -> VersionDocument:
    """For good: it finishes what it accepted, is unloaded, and never comes back."""
    await _publication(parts).retire(model, version)
    return _found(parts, model, version)


@router.get("/{model}/canary", responses=errors(404), summary="The canary of a model")
async def read_canary(model: _Name, parts: Parts, caller: Reader) -> Document:
    """The one that runs, or how the last one ended."""
    return dict(_canary(parts).canary(model))


@router.post("/{model}/canary/promote", responses=errors(404, 409), summary="Promote a canary")
async def promote(model: _Name, parts: Parts, caller: ModelOperator) -> Document:
    """It gets all requests that name no version; a pin of its base moves to it."""
    return dict(await _canary(parts).promote(model))


@router.put("/{model}/canary", responses=errors(404, 409), summary="Give a version a share")
async def set_canary(model: _Name, body: CanaryBody, parts: Parts, caller: ModelOperator) -> Document:
    """Of unpinned requests; rolled back by the rule of the server when it does badly."""
    return dict(await _canary(parts).set_canary(model, body.version, body.share))


@router.delete("/{model}/canary", responses=errors(404, 409), summary="Roll a canary back")
async def roll_back(model: _Name, parts: Parts, caller: ModelOperator) -> Document:
    """All unpinned requests go to the stable version again."""
    return dict(await _canary(parts).roll_back(model))


def _canary(parts: NativeParts) -> CanaryService:
    if parts.canary is None:
        raise NotOffered(service="canary releases")
    return parts.canary


def _publication(parts: NativeParts) -> PublicationService:
    if parts.publication is None:
        raise NotOffered(service="publication of versions")
    return parts.publication


def _found(parts: NativeParts, model: str, version: str) -> VersionDocument:
    for document in _model(parts, model).versions:
        if document.version == version:
            return document
    raise ModelUnknown(model=f"{model}@{version}")


def _model(parts: NativeParts, name: str) -> ModelDocument:
    statuses = [status for status in parts.models.statuses() if status.ref.model == name]
    if not statuses:
        raise ModelUnknown(model=name[:256])
    return _document(parts, name, statuses)


def _document(parts: NativeParts, name: str, statuses: Sequence[VersionStatus]) -> ModelDocument:
    versions = [_version(parts, status) for status in statuses]
    return ModelDocument(name=name, ready=parts.models.is_ready(name), versions=versions)


def _version(parts: NativeParts, status: VersionStatus) -> VersionDocument:
    return VersionDocument(
        model=status.ref.model,
        version=status.ref.version,
        state=status.state.value,
        ready=status.state is VersionState.READY,
        reason=status.reason,
        since=rfc3339(status.since_wall_ns) if status.since_wall_ns else None,
        pinned=status.pinned,
        share=status.share,
        settings=dict(status.settings),
        **_interface(parts, status),
    )


def _interface(parts: NativeParts, status: VersionStatus) -> dict[str, Any]:
    if status.state is not VersionState.READY:
        return {}
    try:
        metadata: ModelMetadata = parts.models.metadata(status.ref.model, status.ref.version)
    except ValidationError:  # it was unloaded between the two questions
        return {}
    return {
        "kind": metadata.kind.value,
        "digest": metadata.digest,
        "inputs": _tensors(metadata.inputs),
        "outputs": _tensors(metadata.outputs),
        "max_rows": metadata.max_rows,
        "unbatched_because": metadata.unbatched_because,
        "memory_bytes": metadata.stated_memory_bytes,
        "memory": dict(metadata.memory),
        "memory_unstated": list(metadata.memory_unstated),
    }


def _tensors(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    return [
        {"name": s.name, "datatype": s.datatype, "shape": list(s.shape), "bounds": list(s.bounds)}
        for s in specs
    ]
