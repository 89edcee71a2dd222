"""What every document shares, and the problem document."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Answer", "Body", "Problem"]


class Body(BaseModel):
    """What a client sends: no field that is not named here, and no value of a neighbouring type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Answer(BaseModel):
    """What the server sends."""

    model_config = ConfigDict(extra="forbid")


class Problem(Answer):
    """RFC 9457. One document for every error of every route."""

    type: str = Field(examples=["urn:plumbline:error:validation.task_unknown"])
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="stable dotted code", examples=["validation.task_unknown"])
    class_: str = Field(alias="class")
    recoverability: str = Field(description="`transient`, `permanent` or `fatal`")
    side_effect: str
    request_id: str
    fields: dict[str, Any]
    context: dict[str, Any]
    retry_after: float | None = Field(default=None, description="seconds until a retry may work")
