"""What a task is refused for, and what can end it."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.errors import ExecutionError, PolicyError, ResourceError, ValidationError

__all__ = [
    "TaskConflict",
    "TaskCrashed",
    "TaskLost",
    "TaskModelUnknown",
    "TaskQueryRefused",
    "TaskRequestRefused",
    "TaskRequestTooLarge",
    "TaskResultTooLarge",
    "TaskTimedOut",
    "TaskUnknown",
    "TasksStopping",
]


@dataclass(eq=False, kw_only=True)
class TaskRequestRefused(ValidationError):
    """A task request with a field that is missing, unknown, or has a value that it cannot have."""

    code = "validation.task_request"
    owner = "serving.tasks"
    template = "task request: {reason}"

    reason: str


@dataclass(eq=False, kw_only=True)
class TaskRequestTooLarge(ValidationError):
    """A task request of more bytes than are kept."""

    code = "validation.task_request_too_large"
    owner = "serving.tasks"
    http_status = 413
    template = "the task request has {given_bytes} bytes, at most {limit_bytes} are kept"

    given_bytes: int
    limit_bytes: int


@dataclass(eq=False, kw_only=True)
class TaskModelUnknown(ValidationError):
    """A task for a model that this server does not have. Nothing was accepted."""

    code = "validation.task_model"
    owner = "serving.tasks"
    http_status = 404
    template = "there is no model {model!r} to run this task on"

    model: str


@dataclass(eq=False, kw_only=True)
class TaskQueryRefused(ValidationError):
    """A list of tasks was asked for with an unknown state, a damaged cursor or an impossible length."""

    code = "validation.task_query"
    owner = "serving.tasks"
    template = "list of tasks: {reason}"

    reason: str


@dataclass(eq=False, kw_only=True)
class TaskUnknown(ValidationError):
    """The caller's tenant has no such task; whether another has one is not told."""

    code = "validation.task_unknown"
    owner = "serving.tasks"
    http_status = 404
    template = "there is no task {task!r}"

    task: str


@dataclass(eq=False, kw_only=True)
class TaskConflict(PolicyError):
    """The id belongs to a task with another request."""

    code = "policy.task_conflict"
    owner = "serving.tasks"
    http_status = 409
    template = "task {task!r} exists with another request; a repeated PUT must carry the same one"

    task: str


@dataclass(eq=False, kw_only=True)
class TaskTimedOut(ResourceError):
    """The time of a task ended before its work did."""

    code = "resource.task_timeout"
    owner = "serving.tasks"
    http_status = 504
    template = "the task was not done {timeout_s} s after it was accepted; it was {where}"

    timeout_s: float
    where: str


@dataclass(eq=False, kw_only=True)
class TaskResultTooLarge(ResourceError):
    """The work was done, and its result is larger than what is kept."""

    code = "resource.task_result_too_large"
    owner = "serving.tasks"
    template = "the result has {given_bytes} bytes, at most {limit_bytes} are kept"

    given_bytes: int
    limit_bytes: int


@dataclass(eq=False, kw_only=True)
class TaskLost(ExecutionError):
    """Every gateway that ran the task died with it. It is not tried again."""

    code = "execution.task_lost"
    owner = "serving.tasks"
    template = "{claims} executors lost this task; it is not tried again"

    claims: int


@dataclass(eq=False, kw_only=True)
class TaskCrashed(ExecutionError):
    """A bug of the executor ended the task."""

    code = "execution.task_crashed"
    owner = "serving.tasks"
    template = "the executor failed on this task ({kind}); this is a bug"

    kind: str


@dataclass(eq=False, kw_only=True)
class TasksStopping(ResourceError):
    """The gateway is stopping and accepts no tasks."""

    code = "resource.tasks_stopping"
    owner = "serving.tasks"
    template = "this gateway is stopping and accepts no tasks"
