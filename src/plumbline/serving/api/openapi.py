"""The OpenAPI document of the native API: exact, with the permission of each route."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from plumbline.serving.api.caller import Needs
from plumbline.serving.api.schemas.document import Problem
from plumbline.serving.ports import Permission

__all__ = ["native_openapi", "route_permissions"]

_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key"},
    "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


def route_permissions(application: FastAPI) -> Iterator[tuple[str, str, Permission]]:
    """Method, path and permission of every route."""
    for version in application.state.versions:
        for route in (route for router in version.routers for route in router.routes):
            if isinstance(route, APIRoute):
                for method in sorted(route.methods or ()):
                    yield method, f"/api/v{version.number}{route.path}", _permission(route)


def native_openapi(application: FastAPI, *, with_keys: bool) -> dict[str, Any]:
    """The document. Every operation says which permission it needs in `x-plumbline-permission`.

    Args:
        application: with every route.
        with_keys: whether callers must show a key.
    """
    document = get_openapi(title=application.title, version=application.version, routes=application.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema(by_alias=True)
    for method, path, permission in route_permissions(application):
        document["paths"][path][method.lower()]["x-plumbline-permission"] = permission.value
    if with_keys:
        document["components"]["securitySchemes"] = _SECURITY
        document["security"] = [{name: []} for name in _SECURITY]
    return document


def _permission(route: APIRoute) -> Permission:
    for dependency in route.dependant.dependencies:
        if isinstance(dependency.call, Needs):
            return dependency.call.permission
    raise LookupError(f"{route.path} names no permission")
