"""Memory plans of versions: as a document, and drawn."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query
from starlette.responses import Response

from plumbline.contracts.inference import VersionRef
from plumbline.serving.api.caller import Parts, Reader
from plumbline.serving.api.parts import NativeParts
from plumbline.serving.api.problems import NotOffered, errors
from plumbline.serving.api.refusals import ModelUnknown
from plumbline.serving.api.schemas.plans import VersionPlans
from plumbline.serving.ports import PlanService

__all__ = ["router"]

router = APIRouter(prefix="/models", tags=["models"])

_Name = Annotated[str, Path(min_length=1, max_length=256)]
_Version = Annotated[str, Path(min_length=1, max_length=64)]
_Stage = Annotated[
    str | None,
    Query(
        min_length=1, max_length=400,
        description="model of a pipeline, as `model@version`; needed where it has several",
    ),
]  # fmt: skip
_Known = Annotated[str | None, Header(max_length=1024, description="ETags that the caller holds")]
_STYLE = re.compile(rb"<style>(.*?)</style>", re.DOTALL)
_DRAWN: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture: one self-contained SVG",
        "content": {"image/svg+xml": {"schema": {"type": "string"}}},
        "headers": {"ETag": {"description": "SHA-256 of the picture", "schema": {"type": "string"}}},
    },
    304: {"description": "The caller has it: its `If-None-Match` names it"},
}


class _Svg(Response):
    media_type = "image/svg+xml"


@router.get("/{model}/versions/{version}/plan", responses=errors(404, 409), summary="Its memory plans")
async def read_plans(model: _Name, version: _Version, parts: Parts, caller: Reader) -> VersionPlans:
    """Arenas, and each buffer with its place and life; of every model of a pipeline."""
    ref, digest = _known(parts, model, version)
    return VersionPlans.model_validate(await _plans(parts).plans(ref, digest))


@router.get(
    "/{model}/versions/{version}/plan.svg",
    response_class=_Svg,
    responses={**errors(404, 409), **_DRAWN},
    summary="A memory plan drawn",
)
async def draw_plan(
    model: _Name, version: _Version, parts: Parts, caller: Reader, stage: _Stage = None,
    if_none_match: _Known = None,
) -> Response:  # fmt: skip
    """Steps to the right, addresses upwards, a box for each buffer. Above 1000 buffers the smallest are drawn
    together, and the picture says so.
    """
    ref, digest = _known(parts, model, version)
    picture = await _plans(parts).picture(ref, digest, stage)
    headers = {
        "etag": f'"{picture.digest}"',
        "cache-control": "private, no-cache",
        "content-security-policy": _policy(picture.svg),
        "x-content-type-options": "nosniff",
        "cross-origin-resource-policy": "same-origin",
    }
    if _is_held(picture.digest, if_none_match):
        return Response(status_code=304, headers=headers)
    return _Svg(picture.svg, headers=headers)


def _known(parts: NativeParts, model: str, version: str) -> tuple[VersionRef, str]:
    """A version of the directory, and the digest of its content."""
    ref = VersionRef(model=model, version=version)
    for status in parts.models.statuses():
        if status.ref == ref:
            return ref, str(status.settings.get("digest", ""))
    raise ModelUnknown(model=f"{model}@{version}")


def _plans(parts: NativeParts) -> PlanService:
    if parts.plans is None:
        raise NotOffered(service="memory plans")
    return parts.plans


def _policy(svg: bytes) -> str:
    """Its own style and nothing else: nothing runs, nothing is loaded, and it is part of no page's origin."""
    hashes = (base64.b64encode(hashlib.sha256(style).digest()).decode() for style in _STYLE.findall(svg))
    style = "".join(f" 'sha256-{digest}'" for digest in hashes) or " 'none'"
    return f"default-src 'none'; style-src{style}; base-uri 'none'; frame-ancestors 'none'; sandbox"


def _is_held(digest: str, tags: str | None) -> bool:
    held = [] if tags is None else [tag.strip().removeprefix("W/") for tag in tags.split(",")]
    return "*" in held or f'"{digest}"' in held
