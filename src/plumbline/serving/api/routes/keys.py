"""API keys of the store (requirement X-60)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from plumbline.serving.api.caller import KeyManager, Parts
from plumbline.serving.api.parts import NativeParts
from plumbline.serving.api.problems import NotOffered, errors
from plumbline.serving.api.schemas.resources import CreatedKeyDocument, KeyBody, KeyDocument, KeyList
from plumbline.serving.identity.keys import KeyService

__all__ = ["router"]

router = APIRouter(prefix="/keys", tags=["keys"])


@router.get("", responses=errors(404), summary="Keys that the caller manages")
async def list_keys(parts: Parts, caller: KeyManager) -> KeyList:
    """Revoked ones too, oldest first; never a secret."""
    keys = await _keys(parts).list(caller)
    return KeyList(keys=[KeyDocument.model_validate(key.to_document()) for key in keys])


@router.post("", status_code=201, responses=errors(404), summary="Create a key")
async def create_key(body: KeyBody, parts: Parts, caller: KeyManager) -> CreatedKeyDocument:
    """The text of the key is in this answer and nowhere else."""
    created = await _keys(parts).create(
        caller, tenant=body.tenant, roles=body.roles, rate=body.rate, name=body.name
    )
    return CreatedKeyDocument.model_validate({**created.key.to_document(), "key": created.text})


@router.delete("/{key_id}", responses=errors(404), summary="Revoke a key")
async def revoke_key(
    key_id: Annotated[str, Path(min_length=1, max_length=64)], parts: Parts, caller: KeyManager
) -> KeyDocument:
    """At once here; within half a second at other gateways of the store."""
    return KeyDocument.model_validate((await _keys(parts).revoke(caller, key_id)).to_document())


def _keys(parts: NativeParts) -> KeyService:
    if parts.keys is None:
        raise NotOffered(service="API keys")
    return parts.keys
