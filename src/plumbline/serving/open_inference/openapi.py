"""The OpenAPI document of `/v2` and of the service's own routes, made beside the route table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from plumbline.serving.open_inference.route_table import Operation, Route
from plumbline.serving.open_inference.schemas import SCHEMAS, reference

__all__ = ["openapi_document"]

_ERRORS = {
    400: "The request is wrong; `code` and `detail` say how.",
    401: "No valid key.",
    403: "The key, origin or host may not do this.",
    404: "Unknown address, model or version.",
    405: "Unknown method.",
    406: "Unknown API version, or an output that JSON cannot hold.",
    408: "The body did not arrive in time.",
    409: "The request id is still in use.",
    413: "A body or tensor beyond the limits.",
    415: "A media type or content encoding that is not read here.",
    429: "The rate of the key is used up; see Retry-After.",
    431: "Headers beyond the limits.",
    503: "No room or not ready; see Retry-After.",
}

_ANSWERS = {
    "/": "Service",
    "/health": "Health",
    "/health/live": "Live",
    "/health/ready": "Ready",
    "/v2": "ServerMetadata",
    "/v2/health/live": "Live",
    "/v2/health/ready": "Ready",
    "/v2/models/stats": "ModelStatistics",
    "/v2/repository/index": "Index",
    "/v2/repository/models/{model}/load": "Done",
    "/v2/repository/models/{model}/unload": "Done",
}
_BY_ENDING = {
    "/ready": "ModelReady",
    "/config": "ModelConfig",
    "/stats": "ModelStatistics",
    "/infer": "InferResponse",
    "/trace/setting": "TraceSettings",
}
_REQUESTS = {
    "/infer": "InferRequest",
    "/index": "IndexRequest",
    "/load": "RepositoryRequest",
    "/unload": "RepositoryRequest",
    "/trace/setting": "TraceRequest",
}
_REFUSED = ("sharedmemory", "/v2/logging")


def openapi_document(name: str, version: str, routes: Iterable[Route]) -> dict[str, Any]:
    """The document (OpenAPI 3.1) of these routes, without those that exist to refuse an extension."""
    paths: dict[str, Any] = {}
    offered = (route for route in routes if not any(part in route.template for part in _REFUSED))
    for route in offered:
        paths[route.template] = {
            method.lower(): _operation(route.template, method, operation)
            for method, operation in route.operations.items()
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": version},
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _operation(template: str, method: str, operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": f"{method.lower()}{template.replace('/', '_').replace('{', '').replace('}', '')}",
        "tags": ["open-inference" if template.startswith("/v2") else "service"],
        "parameters": _path_parameters(template),
        "responses": _responses(template),
    }
    if operation.permission is not None:
        described["security"] = [{}, {"bearer": []}, {"key": []}]
        described["x-permission"] = operation.permission.value
    if operation.body:
        described["requestBody"] = _request_body(template)
    return described


def _path_parameters(template: str) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in template.split("/") if part.startswith("{")]
    schema = {"type": "string", "minLength": 1}
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in names]


def _request_body(template: str) -> dict[str, Any]:
    wanted = next((schema for ending, schema in _REQUESTS.items() if template.endswith(ending)), None)
    schema = {"type": "object"} if wanted is None else reference(wanted)
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if wanted == "InferRequest":
        content["application/octet-stream"] = {
            "schema": {
                "type": "string",
                "contentEncoding": "binary",
                "description": "the JSON document, then the binary tensor data in the order of the inputs; "
                "the header Inference-Header-Content-Length has the length of the document",
            }
        }
    return {"required": wanted == "InferRequest", "content": content}


def _responses(template: str) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": reference("Problem")}}
    found: dict[str, Any] = {
        str(status): {"description": text, "content": problem} for status, text in _ERRORS.items()
    }
    found["default"] = {"description": "Any other failure, by its class.", "content": problem}
    found["200"] = {"description": "The answer.", "content": _answer(template)}
    return found


def _answer(template: str) -> dict[str, Any]:
    if template == "/metrics":
        return {"text/plain": {"schema": {"type": "string"}}}
    if template == "/docs":
        return {"text/html": {"schema": {"type": "string"}}}
    if template == "/openapi.json":
        return {"application/json": {"schema": {"type": "object"}}}
    name = _ANSWERS.get(template)
    if name is None:
        name = next((schema for end, schema in _BY_ENDING.items() if template.endswith(end)), "ModelMetadata")
    content: dict[str, Any] = {"application/json": {"schema": reference(name)}}
    if template == "/":
        content["text/html"] = {"schema": {"type": "string"}}
    if name == "InferResponse":
        content["application/octet-stream"] = {"schema": {"type": "string", "contentEncoding": "binary"}}
    return content
