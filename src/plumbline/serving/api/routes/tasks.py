"""Tasks: accepted once, done once (requirement L4-34)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Response

from plumbline.serving.api.caller import Parts, TaskCaller
from plumbline.serving.api.problems import errors
from plumbline.serving.api.schemas.tasks import TaskPage, TaskRequest, TaskResponse
from plumbline.serving.ports import TaskView

__all__ = ["router"]

router = APIRouter(prefix="/tasks", tags=["tasks"])

_Id = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_AnyId = Annotated[str, Path(min_length=1, max_length=256)]
_State = Literal["accepted", "queued", "running", "succeeded", "failed", "cancelled", "expired"]
_Trace = Annotated[str, Header(max_length=64, description="W3C trace context")]


@router.post("", status_code=202, responses=errors(404, 409, 413), summary="Submit a task")
async def submit_task(
    body: TaskRequest, request: Request, response: Response, parts: Parts, caller: TaskCaller,
    traceparent: _Trace = "",
) -> TaskResponse:  # fmt: skip
    """Accepts a task; `Location` says where to read it."""
    view = await parts.tasks.submit(caller, _document(body), traceparent=traceparent)
    response.headers["location"] = f"{request.url.path}/{view.id}"
    return _answer(view)


@router.get("", responses=errors(), summary="Tasks of the caller's tenant")
async def list_tasks(
    parts: Parts,
    caller: TaskCaller,
    state: Annotated[_State | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(min_length=1, max_length=128)] = None,
) -> TaskPage:
    """Newest first, without results."""
    views, more = await parts.tasks.list(caller, state=state, limit=limit, cursor=cursor)
    return TaskPage(tasks=[_answer(view) for view in views], next=more)


@router.get("/{task_id}", responses=errors(404), summary="Read a task")
async def read_task(task_id: _AnyId, parts: Parts, caller: TaskCaller) -> TaskResponse:
    """With its result or its error, once it ended."""
    return _answer(await parts.tasks.read(caller, task_id))


@router.put(
    "/{task_id}",
    responses={201: {"model": TaskResponse, "description": "Accepted now"}, **errors(404, 409, 413)},
    summary="Submit a task under one's own id",
)
async def put_task(
    task_id: _Id, body: TaskRequest, response: Response, parts: Parts, caller: TaskCaller,
    traceparent: _Trace = "",
) -> TaskResponse:  # fmt: skip
    """As often as wanted: the same request gives the same task, another one is refused (409)."""
    view = await parts.tasks.submit(caller, _document(body), task_id, traceparent=traceparent)
    if view.created:
        response.status_code = 201
    return _answer(view)


@router.delete("/{task_id}", responses=errors(404), summary="Cancel a task")
async def cancel_task(task_id: _AnyId, parts: Parts, caller: TaskCaller) -> TaskResponse:
    """Asks for its end; a finished task is returned as it is."""
    return _answer(await parts.tasks.cancel(caller, task_id))


def _document(body: TaskRequest) -> dict[str, Any]:
    return body.model_dump(exclude_unset=True)


def _answer(view: TaskView) -> TaskResponse:
    return TaskResponse.model_validate(view.document)
