"""`native_application`: the native API and the event socket as one ASGI application."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, WebSocketRoute

from plumbline.serving.api.caller import authenticator_of
from plumbline.serving.api.openapi import native_openapi
from plumbline.serving.api.parts import NativeParts
from plumbline.serving.api.problems import install_problems
from plumbline.serving.api.reference_page import PAGE_HEADERS, reference_page
from plumbline.serving.api.routes import devices, keys, models, plans, service, tasks
from plumbline.serving.events.socket import EventSocket

__all__ = ["V1", "ApiVersion", "native_application"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiVersion:
    """A version of the native API: its number, and its routers, mounted under `/api/v<number>`."""

    number: int
    routers: tuple[APIRouter, ...]


V1 = ApiVersion(
    number=1,
    routers=(service.router, tasks.router, devices.router, models.router, plans.router, keys.router),
)


def native_application(parts: NativeParts, versions: Sequence[ApiVersion] = (V1,)) -> FastAPI:
    """The application. Addresses are whole (`/api/v1/...`, `/ws`), so it is mounted at the root.

    A request may carry the principal that a shell found, and the request id, as `principal` and `request_id`
    in `scope["state"]`; otherwise the authenticator is asked here. Failures are problem documents.

    Args:
        parts: the services behind the routes.
        versions: of the API, served together (requirement L4-40).
    """
    application = FastAPI(
        title=f"{parts.name} native API",
        version=parts.version,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    application.state.parts = parts
    application.state.versions = tuple(versions)
    application.state.api_versions = tuple(version.number for version in versions)
    for version in versions:
        for router in version.routers:
            application.include_router(
                router,
                prefix=f"/api/v{version.number}",
                generate_unique_id_function=lambda route, n=version.number: f"v{n}_{route.name}",  # type: ignore[misc]
            )
    install_problems(application)
    socket = EventSocket(
        parts.events,
        authenticator_of(parts),
        allowed_origins=parts.allowed_origins,
        limits=parts.socket,
    )
    application.state.socket = socket
    application.router.routes.append(WebSocketRoute("/ws", socket.endpoint))
    _install_document(application, with_keys=parts.authenticator is not None)
    application.router.routes.append(Route("/docs", _page, methods=["GET"], include_in_schema=False))
    return application


async def _page(request: Request) -> Response:
    """The reference page: of the gateway's whole document where the composition gives one."""
    application = request.app
    document = (application.state.parts.openapi or application.openapi)()
    return HTMLResponse(reference_page(document), headers=PAGE_HEADERS)


def _install_document(application: FastAPI, *, with_keys: bool) -> None:
    kept: dict[str, Any] = {}

    def document() -> dict[str, Any]:
        if not kept:
            kept.update(native_openapi(application, with_keys=with_keys))
        return kept

    application.openapi = document  # type: ignore[method-assign]
