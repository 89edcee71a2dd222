"""What is answered while something is not ready."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from plumbline.errors import Recoverability, ResourceError, ValidationError

__all__ = ["ModelNotReady", "ServerNotReady"]


@dataclass(eq=False, kw_only=True)
class ServerNotReady(ResourceError):
    """The server cannot serve now."""

    code = "resource.server_not_ready"
    recoverability = Recoverability.TRANSIENT
    owner = "serving.open_inference"
    template = "the server is not ready: {reason}"

    reason: str
    checks: Mapping[str, Any] = field(default_factory=dict)
    retry_after_s: float = 1.0


@dataclass(eq=False, kw_only=True)
class ModelNotReady(ValidationError):
    """A model or version that is unknown or serves no requests now."""

    code = "validation.model_not_ready"
    owner = "serving.open_inference"
    template = "model {model!r}, version {version!r}: serves no requests now"

    model: str
    version: str
