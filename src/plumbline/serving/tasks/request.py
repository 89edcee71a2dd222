"""`TaskRequest`: what a client asks for (requirement L4-52), read strictly from plain JSON values."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal

import msgspec

from plumbline.contracts.requests import DEFAULT_PRIORITY, HIGHEST_PRIORITY, LOWEST_PRIORITY
from plumbline.serving.tasks.refusals import TaskRequestRefused, TaskRequestTooLarge

__all__ = ["JsonTensor", "TaskRequest", "canonical_request", "digest_of", "parse_request", "verify_task_id"]

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonTensor:
    """A tensor as JSON: `data` flat or nested, as in the Open Inference Protocol."""

    name: Name
    datatype: Annotated[str, msgspec.Meta(min_length=1, max_length=16)]
    shape: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0)], ...], msgspec.Meta(max_length=32)]
    data: list[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRequest:
    """Attributes:
    operation: `infer`, the one that there is.
    model: name in the repository, or `model@version`.
    version: a pinned version; None: routing decides.
    inputs: tensors by name.
    text: texts for the one input of the model that takes them, instead of `inputs`.
    outputs: which outputs are wanted; empty for all.
    parameters: for the version, plain JSON values.
    device: preferred device; None: the allocator decides. Never replaced by another.
    priority: 0..9, higher first.
    timeout_s: from acceptance to the end; None for the gateway's default.
    name: what the client calls it.
    cache: whether a kept result of an identical call may answer.
    """

    operation: Literal["infer"] = "infer"
    model: Name
    version: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None
    inputs: Annotated[tuple[JsonTensor, ...], msgspec.Meta(max_length=256)] = ()
    text: Annotated[tuple[str, ...], msgspec.Meta(max_length=4096)] | str | None = None
    outputs: Annotated[tuple[Name, ...], msgspec.Meta(max_length=256)] = ()
    parameters: dict[Name, Any] = field(default_factory=dict)
    device: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None
    priority: Annotated[int, msgspec.Meta(ge=LOWEST_PRIORITY, le=HIGHEST_PRIORITY)] = DEFAULT_PRIORITY
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=7 * 86400)] | None = None
    name: Annotated[str, msgspec.Meta(max_length=200)] = ""
    cache: bool = True

    @property
    def texts(self) -> tuple[str, ...]:
        """`text` as rows."""
        return (self.text,) if isinstance(self.text, str) else self.text or ()


_FIELDS = frozenset(f.name for f in fields(TaskRequest))


def parse_request(document: Mapping[str, Any]) -> TaskRequest:
    """The request that a JSON object states.

    Raises:
        TaskRequestRefused: naming the field.
    """
    unknown = sorted(str(key)[:40] for key in document if key not in _FIELDS)
    if unknown:
        raise TaskRequestRefused(reason=f"there is no field {unknown[0]!r}")
    try:
        request = msgspec.convert(dict(document), TaskRequest)
    except (msgspec.ValidationError, RecursionError) as error:
        raise TaskRequestRefused(reason=str(error)) from None
    return _split_version(_verified(request))


def canonical_request(request: TaskRequest, max_bytes: int) -> str:
    """The request as JSON text, equal for equal requests.

    Raises:
        TaskRequestRefused: a value that JSON cannot hold (not finite, half a surrogate pair).
        TaskRequestTooLarge: more than `max_bytes`.
    """
    document = {f.name: getattr(request, f.name) for f in fields(TaskRequest)}
    document["inputs"] = [
        {"name": t.name, "datatype": t.datatype, "shape": t.shape, "data": t.data} for t in request.inputs
    ]
    try:
        text = json.dumps(
            document, sort_keys=True, allow_nan=False, separators=(",", ":"), ensure_ascii=False
        )
        size_bytes = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise TaskRequestRefused(reason=f"not a JSON document ({type(error).__name__})") from None
    if size_bytes > max_bytes:
        raise TaskRequestTooLarge(given_bytes=size_bytes, limit_bytes=max_bytes)
    return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def digest_of(canonical: str, *, without: tuple[str, ...] = ()) -> str:
    """SHA-256 of a canonical request, some fields left out."""
    if without:
        document = {name: value for name, value in json.loads(canonical).items() if name not in without}
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def verify_task_id(task: str) -> str:
    """The id itself.

    Raises:
        TaskRequestRefused: it has characters or a length that an id cannot have.
    """
    if not _ID.fullmatch(task):
        raise TaskRequestRefused(reason="an id is 1 to 64 letters, digits, `.`, `_` or `-`")
    return task


def _verified(request: TaskRequest) -> TaskRequest:
    if bool(request.inputs) == (request.text is not None):
        raise TaskRequestRefused(reason="exactly one of `inputs` and `text` is wanted")
    if request.text is not None and not request.texts:
        raise TaskRequestRefused(reason="`text` is empty")
    names = [tensor.name for tensor in request.inputs]
    if len(set(names)) != len(names):
        raise TaskRequestRefused(reason="two inputs have one name")
    return request


def _split_version(request: TaskRequest) -> TaskRequest:
    model, mark, version = request.model.rpartition("@")
    if not mark or request.version is not None:
        return request
    if not model or not version:
        raise TaskRequestRefused(reason="`model` reads NAME or NAME@VERSION")
    return replace(request, model=model, version=version)
