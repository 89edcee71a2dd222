"""What a compute backend refuses, and how it says so."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.errors import BackendError, ResourceError, ValidationError

__all__ = [
    "BackendClosed",
    "BackendConflict",
    "BackendMemoryRefused",
    "BackendUnknown",
    "DispatchRefused",
    "OperandRefused",
    "OperationUnsupported",
]


@dataclass(eq=False, kw_only=True)
class OperationUnsupported(BackendError):
    """A backend was asked for an operation, element type or attribute that it does not have."""

    code = "backend.operation_unsupported"
    owner = "execution"
    template = "backend {backend!r} does not run {operation!r}: {reason}"

    backend: str
    operation: str
    reason: str


@dataclass(eq=False, kw_only=True)
class OperandRefused(ValidationError):
    """An operand of a call does not have the type that the call states."""

    code = "validation.operand"
    owner = "execution"
    template = "operand {position} of {operation!r} on backend {backend!r}: {reason}"

    backend: str
    operation: str
    position: int
    reason: str


@dataclass(eq=False, kw_only=True)
class BackendMemoryRefused(ResourceError):
    """The operands and results of a call are more than the backend's memory."""

    code = "resource.backend_memory"
    owner = "execution"
    template = "backend {backend!r} has {limit_bytes} bytes, {operation!r} needs {required_bytes}"

    backend: str
    operation: str
    required_bytes: int
    limit_bytes: int


@dataclass(eq=False, kw_only=True)
class BackendClosed(BackendError):
    """The backend was used after it was closed."""

    code = "backend.closed"
    owner = "execution"
    template = "backend {backend!r} is closed"

    backend: str


@dataclass(eq=False, kw_only=True)
class BackendUnknown(ValidationError):
    """No backend is registered under a name."""

    code = "validation.backend_unknown"
    owner = "execution"
    template = "there is no backend {backend!r}; registered: {known}"

    backend: str
    known: str


@dataclass(eq=False, kw_only=True)
class BackendConflict(ValidationError):
    """Two backends want one name."""

    code = "validation.backend_conflict"
    owner = "execution"
    template = "a backend {backend!r} is registered already"

    backend: str


@dataclass(eq=False, kw_only=True)
class DispatchRefused(ValidationError):
    """A run wants a part on a backend that the part was not compiled for."""

    code = "validation.dispatch"
    owner = "execution"
    template = "part {part!r} cannot run on backend {backend!r}: it is compiled for {compiled}"

    part: str
    backend: str
    compiled: str
