"""What this is, and who you are."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from plumbline.contracts.clock import rfc3339
from plumbline.contracts.requests import RequestId
from plumbline.serving.api.caller import ModelOperator, Parts, Reader
from plumbline.serving.api.problems import errors
from plumbline.serving.api.schemas.resources import (
    Document,
    Info,
    Timeline,
    WorkerDocument,
    WorkerList,
    WorkerOutput,
)
from plumbline.serving.identity.roles import ROLE_PERMISSIONS

__all__ = ["router"]

router = APIRouter(tags=["service"])

_WorkerName = Annotated[str, Path(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
_RequestId = Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[\x20-\x2e\x30-\x7e]+$")]


@router.get("/info", responses=errors(), summary="The service and the caller")
async def read_info(request: Request, parts: Parts, caller: Reader) -> Info:
    """Name, version, versions of this API, and who is asking."""
    permissions = sorted({p.value for role in caller.roles for p in ROLE_PERMISSIONS[role]})
    principal = {
        "id": caller.id,
        "tenant": caller.tenant,
        "roles": sorted(role.value for role in caller.roles),
        "permissions": permissions,
    }
    return Info.model_validate(
        {
            "name": parts.name,
            "version": parts.version,
            "api_versions": list(request.app.state.api_versions),
            "time": rfc3339(parts.clock.wall_ns()),
            "principal": principal,
        }
    )


@router.get("/requests/{request_id}/explain", responses=errors(404), summary="Why it ran when and where")
async def explain_request(request_id: _RequestId, parts: Parts, caller: Reader) -> Document:
    """The decisions on a request, from the decision logs alone."""
    return dict(await parts.decisions.explain(RequestId(request_id)))


@router.get("/timeline", responses=errors(), summary="The last launches")
async def read_timeline(
    parts: Parts, caller: Reader, last: Annotated[int, Query(ge=1, le=10_000)] = 200
) -> Timeline:
    """Request, model, stream, worker, begin and end of each."""
    launches = await parts.decisions.timeline(last)
    return Timeline(now_ns=parts.clock.now_ns(), launches=[dict(launch) for launch in launches])


@router.get("/workers", responses=errors(), summary="Every worker")
async def list_workers(parts: Parts, caller: Reader) -> WorkerList:
    """State, queue, progress and memory of each."""
    return WorkerList(
        workers=[
            WorkerDocument(
                name=w.name,
                generation=w.generation,
                pid=w.pid,
                state=w.state.value,
                queued=w.queued,
                running=w.running,
                steps=w.steps,
                versions=list(w.versions),
                memory_bytes=w.memory_bytes,
                budget_bytes=w.budget_bytes,
                log_trouble=w.log_trouble,
                missed_decisions=w.missed_decisions,
            )
            for w in parts.workers.workers()
        ]
    )


@router.get("/workers/{name}/output", responses=errors(404), summary="What a worker printed last")
async def read_worker_output(name: _WorkerName, parts: Parts, caller: ModelOperator) -> WorkerOutput:
    """Its last lines, among them why a Python class failed. For operators: classes print what they like."""
    return WorkerOutput(name=name, output=parts.workers.output(name))
