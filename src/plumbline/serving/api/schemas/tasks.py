"""Tasks: schema `TaskRequest` comes in, `TaskResponse` goes out (requirements L4-52, L4-53)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from plumbline.serving.api.schemas.document import Answer, Body

__all__ = ["TaskPage", "TaskProgress", "TaskRequest", "TaskResponse", "TensorBody"]

_Name = Annotated[str, Field(min_length=1, max_length=256)]
_Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64",
    "BYTES",
]  # fmt: skip
_Extent = Annotated[int, Field(ge=0, lt=2**31)]


class TensorBody(Body):
    """A tensor as in the Open Inference Protocol; `data` is flat or nested as `shape` says."""

    name: _Name
    datatype: _Datatype
    shape: Annotated[list[_Extent], Field(max_length=32)]
    data: list[Any]


class TaskRequest(Body):
    """What is to be done. Exactly one of `inputs` and `text` is given."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": "minilm", "text": ["how do I plan memory?"], "priority": 7, "timeout_s": 30},
                {
                    "model": "mlp@1",
                    "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 1.5]}],
                },
            ]
        }
    )

    operation: Literal["infer"] = "infer"
    model: _Name = Field(description="`NAME` or `NAME@VERSION`")
    version: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    inputs: Annotated[list[TensorBody], Field(max_length=256, default_factory=list)]
    text: Annotated[list[str], Field(min_length=1, max_length=4096)] | str | None = None
    outputs: Annotated[list[_Name], Field(max_length=256, default_factory=list)]
    parameters: Annotated[dict[_Name, Any], Field(default_factory=dict)]
    device: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        default=None, description="never replaced by another"
    )
    priority: Annotated[int, Field(ge=0, le=9)] = 5
    timeout_s: Annotated[float, Field(gt=0, le=7 * 86400)] | None = Field(
        default=None, description="from acceptance to the end"
    )
    name: Annotated[str, Field(max_length=200)] = ""
    cache: bool = Field(default=True, description="whether a kept result of an identical call may answer")


class TaskProgress(Answer):
    """What is done for a task now."""

    stage: str
    stalled: bool


class TaskResponse(Answer):
    """A task. `result` is `{"outputs": [...]}` once it succeeded; lists leave it out."""

    schema_: int = Field(alias="schema")
    id: str
    name: str
    operation: str
    model: str
    version: str | None
    status: Literal["accepted", "queued", "running", "succeeded", "failed", "cancelled", "expired"]
    priority: int
    progress: TaskProgress
    cancel_requested: bool
    submitted_at: str
    started_at: str | None
    finished_at: str | None
    expires_at: str | None
    submitted_by: str
    device_preference: str | None
    device: str | None
    allocation: dict[str, Any] | None
    served_by: str | None
    cached: bool
    claims: int
    request_id: str | None = Field(description="for `/requests/{id}/explain`")
    trace_id: str | None
    timing: dict[str, int]
    result_bytes: int
    result: dict[str, Any] | None
    error: dict[str, Any] | None


class TaskPage(Answer):
    """Tasks, newest first."""

    tasks: list[TaskResponse]
    next: str | None = Field(description="`cursor` of the next page")
