"""What the native API refuses by itself."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.errors import ValidationError

__all__ = ["ModelUnknown"]


@dataclass(eq=False, kw_only=True)
class ModelUnknown(ValidationError):
    """The directory has no such model or version."""

    code = "validation.native_model"
    owner = "serving.api"
    http_status = 404
    template = "there is no model {model!r}"

    model: str
