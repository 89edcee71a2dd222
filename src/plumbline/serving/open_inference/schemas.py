"""JSON schemas of the protocol's documents, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from plumbline.serving.open_inference.datatypes import ITEM_BYTES

__all__ = ["PROBLEM", "SCHEMAS", "reference"]

_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_COUNT = {"type": "integer", "minimum": 0}
_NAME = {"type": "string", "minLength": 1, "maxLength": 256}
_DATATYPE = {"type": "string", "enum": sorted(ITEM_BYTES)}
_PLAIN = {"type": ["string", "number", "boolean", "null"]}


def reference(name: str) -> dict[str, str]:
    """A reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"]}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    properties = {**required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": sorted(required), **more}


def _many(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


PROBLEM = _object(
    {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": _TEXT,
        "instance": _TEXT,
        "code": _TEXT,
        "class": {
            "enum": ["artifact", "validation", "resource", "backend", "execution", "decoding", "policy"]
        },
        "recoverability": {"enum": ["transient", "permanent", "fatal"]},
        "side_effect": {"enum": ["none", "known", "unknown"]},
        "request_id": _TEXT,
        "fields": {"type": "object"},
        "context": _object({"module": _TEXT, "line": {"type": "integer"}, "function": _TEXT}),
    },
    {"retry_after": {"type": "number", "minimum": 0}, "error": _TEXT},
)

_PARAMETERS = {"type": "object", "maxProperties": 64, "additionalProperties": _PLAIN}
_TERMS = _object(
    {},
    {
        "priority": {"type": "integer", "minimum": 0, "maximum": 2**53},
        "timeout": {"type": "integer", "minimum": 0, "maximum": 2**53},
        "plumbline_deadline_us": {"type": "integer", "minimum": 0, "maximum": 2**53},
        "binary_data_output": _FLAG,
    },
    additionalProperties=_PLAIN,
)
_SHAPE = {
    "type": "array",
    "maxItems": 32,
    "items": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
}
_TENSOR = _object({"name": _TEXT, "datatype": _DATATYPE, "shape": _many({"type": "integer", "minimum": -1})})
_NUMBER_TEXT = {"type": ["string", "integer", "null"], "maximum": 10**15 - 1}
_DURATION = _object({"count": _COUNT, "ns": _COUNT})
_DURATIONS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
_CONFIG_TENSOR = _object(
    {"name": _TEXT, "data_type": _TEXT, "dims": _many({"type": "integer", "minimum": -1})}
)

SCHEMAS: dict[str, Any] = {
    "Problem": PROBLEM,
    "Service": _object(
        {"name": _TEXT, "version": _TEXT, "contract_versions": _many(_TEXT), "protocols": _many(_TEXT)}
    ),
    "Live": _object({"live": _FLAG}),
    "Ready": _object({"ready": _FLAG}, {"checks": {"type": "object"}}),
    "Health": _object({"live": _FLAG, "ready": _FLAG, "checks": {"type": "object"}}),
    "ServerMetadata": _object({"name": _TEXT, "version": _TEXT, "extensions": _many(_TEXT)}),
    "ModelReady": _object({"name": _TEXT, "ready": {"const": True}}),
    "ModelMetadata": _object(
        {
            "name": _TEXT,
            "versions": _many(_TEXT),
            "platform": _TEXT,
            "inputs": _many(_TENSOR),
            "outputs": _many(_TENSOR),
        }
    ),
    "ModelConfig": _object(
        {
            "name": _TEXT,
            "platform": _TEXT,
            "backend": _TEXT,
            "max_batch_size": {"const": 0},
            "input": _many(_CONFIG_TENSOR),
            "output": _many(_CONFIG_TENSOR),
            "version_policy": {"type": "object"},
            "parameters": {"type": "object", "additionalProperties": _object({"string_value": _TEXT})},
        }
    ),
    "ModelStatistics": _object(
        {
            "model_stats": _many(
                _object(
                    {
                        "name": _TEXT,
                        "version": _TEXT,
                        "last_inference": _COUNT,
                        "inference_count": _COUNT,
                        "execution_count": _COUNT,
                        "inference_stats": _object(
                            dict.fromkeys((*_DURATIONS, "cache_hit", "cache_miss"), _DURATION)
                        ),
                        "batch_stats": _many(
                            _object({"batch_size": _COUNT, **dict.fromkeys(_DURATIONS[3:], _DURATION)})
                        ),
                        "memory_usage": _many({"type": "object"}),
                    }
                )
            )
        }
    ),
    "InferRequest": _object(
        {
            "inputs": {
                "type": "array",
                "maxItems": 256,
                "items": _object(
                    {"name": _NAME, "shape": _SHAPE, "datatype": _DATATYPE},
                    {
                        "parameters": _or_null(
                            _object({}, {"binary_data_size": _COUNT}, additionalProperties=False)
                        ),
                        "data": {"type": "array"},
                    },
                ),
            }
        },
        {
            "id": {"type": "string", "maxLength": 256},
            "parameters": _or_null(_TERMS),
            "outputs": {
                "type": ["array", "null"],
                "maxItems": 256,
                "items": _object(
                    {"name": _TEXT},
                    {
                        "parameters": _or_null(
                            _object(
                                {},
                                {
                                    "binary_data": _FLAG,
                                    "classification": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
                                },
                                additionalProperties=False,
                            )
                        )
                    },
                ),
            },
        },
    ),
    "InferResponse": _object(
        {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "outputs": _many(
                _object(
                    {"name": _TEXT, "datatype": _DATATYPE, "shape": _SHAPE},
                    {"parameters": {"type": "object"}, "data": {"type": "array"}},
                )
            ),
        },
        {"id": _TEXT},
    ),
    "IndexRequest": _object({}, {"ready": _FLAG}),
    "Index": _many(
        _object(
            {
                "name": _TEXT,
                "version": _TEXT,
                "state": {"enum": ["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]},
                "reason": _TEXT,
            }
        )
    ),
    "RepositoryRequest": _object({}, {"parameters": _PARAMETERS}),
    "Done": {"type": "object", "maxProperties": 0},
    "TraceSettings": _object(
        {"trace_level": _many(_TEXT), "trace_rate": _TEXT, "trace_count": _TEXT}, additionalProperties=False
    ),
    "TraceRequest": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "trace_level": {"enum": ["OFF", "TIMESTAMPS", ["OFF"], ["TIMESTAMPS"], None]},
            "trace_rate": {**_NUMBER_TEXT, "pattern": "^[1-9][0-9]{0,14}$", "minimum": 1},
            "trace_count": {**_NUMBER_TEXT, "pattern": "^[0-9]{1,15}$", "minimum": -1},
        },
    },
}
