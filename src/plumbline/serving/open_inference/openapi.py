"""The OpenAPI document of `/v2` and of the service's own routes."""

from __future__ import annotations

from typing import Any

__all__ = ["openapi_document"]


def openapi_document(name: str, version: str) -> dict[str, Any]:
    """The document (OpenAPI 3.1)."""
    return {"openapi": "3.1.0", "info": {"title": name, "version": version}, "paths": {}}
