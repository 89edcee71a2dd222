"""Documents of the protocol about models: metadata, configuration, statistics, repository index."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from plumbline.contracts.models import ModelMetadata, TensorSpec, VersionState, VersionStatus
from plumbline.serving.ports import ModelDirectory, VersionStatistics

__all__ = [
    "EXTENSIONS",
    "index_document",
    "model_config_document",
    "model_metadata_document",
    "platform_of",
    "ready_versions",
    "statistics_document",
]

EXTENSIONS = (
    "classification",
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "schedule_policy",
    "statistics",
    "trace",
)
"""Names of the protocol's extensions that this server has."""

_INDEX_STATES = {
    VersionState.READY: "READY",
    VersionState.PREPARING: "LOADING",
    VersionState.LOADING: "LOADING",
    VersionState.WARMING: "LOADING",
    VersionState.UNLOADING: "UNLOADING",
}


def platform_of(metadata: ModelMetadata) -> str:
    """What the protocol calls the platform: `plumbline_` and the kind of version."""
    return f"plumbline_{metadata.kind.value}"


def ready_versions(models: ModelDirectory, model: str) -> list[str]:
    """Versions of a model that serve requests now: numbers by value, then names."""
    statuses = models.statuses()
    ready = [s.ref.version for s in statuses if s.ref.model == model and s.state is VersionState.READY]
    return sorted(ready, key=_by_value)


def _by_value(version: str) -> tuple[bool, int, str]:
    is_number = version.isascii() and version.isdigit()
    return (not is_number, int(version) if is_number else 0, version)


def model_metadata_document(metadata: ModelMetadata, versions: list[str]) -> dict[str, Any]:
    """The metadata of a model."""
    return {
        "name": metadata.ref.model,
        "versions": versions,
        "platform": platform_of(metadata),
        "inputs": [_tensor(spec) for spec in metadata.inputs],
        "outputs": [_tensor(spec) for spec in metadata.outputs],
    }


def model_config_document(metadata: ModelMetadata) -> dict[str, Any]:
    """The configuration of a version in the words of the model configuration extension.

    `max_batch_size` is 0: shapes are given whole, with their first axis, whether requests are batched or not;
    `parameters.max_rows` says how many rows of requests share a launch, `unbatched_because` why none do.
    """
    document = {
        "name": metadata.ref.model,
        "platform": platform_of(metadata),
        "backend": "plumbline",
        "version_policy": {"specific": {"versions": _numbers(metadata.ref.version)}},
        "max_batch_size": 0,
        "input": [_config_tensor(spec) for spec in metadata.inputs],
        "output": [_config_tensor(spec) for spec in metadata.outputs],
        "parameters": {
            "version": {"string_value": metadata.ref.version},
            "digest": {"string_value": metadata.digest},
            "max_rows": {"string_value": str(metadata.max_rows)},
            **_said("unbatched_because", metadata.unbatched_because),
            "memory_bytes": {"string_value": _memory_text(metadata)},
            **_said("memory_unstated", ", ".join(metadata.memory_unstated)),
        },
    }
    return document


def _said(name: str, text: str) -> dict[str, Any]:
    return {name: {"string_value": text}} if text else {}


def _memory_text(metadata: ModelMetadata) -> str:
    stated = metadata.stated_memory_bytes
    return "not stated" if stated is None else str(stated)


def statistics_document(entry: VersionStatistics) -> dict[str, Any]:
    """The statistics of a version in the words of the statistics extension.

    Input and output conversion are not timed apart from the run: they are 0 and counted with it.
    """
    return {
        "name": entry.ref.model,
        "version": entry.ref.version,
        "last_inference": entry.last_inference_wall_ns // 1_000_000,
        "inference_count": entry.inferences,
        "execution_count": entry.executions,
        "inference_stats": {
            "success": _duration(entry.successes, entry.success_ns),
            "fail": _duration(entry.failures, entry.failure_ns),
            "queue": _duration(entry.successes, entry.queue_ns),
            "compute_input": _duration(entry.successes, 0),
            "compute_infer": _duration(entry.successes, entry.compute_ns),
            "compute_output": _duration(entry.successes, 0),
            "cache_hit": _duration(entry.cache_hits, entry.cache_hit_ns),
            "cache_miss": _duration(0, 0),
        },
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": _duration(launches, 0),
                "compute_infer": _duration(launches, total_ns),
                "compute_output": _duration(launches, 0),
            }
            for size, (launches, total_ns) in sorted(entry.batches.items())
        ],
        "memory_usage": [],
    }


def index_document(statuses: Iterable[VersionStatus], only_ready: bool) -> list[dict[str, str]]:
    """The repository index. States of the protocol: READY, LOADING, UNLOADING, UNAVAILABLE."""
    entries = []
    for status in statuses:
        state = _INDEX_STATES.get(status.state, "UNAVAILABLE")
        if state == "READY" or not only_ready:
            reason = status.reason or ("" if state == "READY" else status.state.value)
            entries.append(
                {"name": status.ref.model, "version": status.ref.version, "state": state, "reason": reason}
            )
    return entries


def _numbers(version: str) -> list[int]:
    return [int(version)] if version.isascii() and version.isdecimal() and len(version) < 16 else []


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _config_tensor(spec: TensorSpec) -> dict[str, Any]:
    data_type = "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}"
    return {"name": spec.name, "data_type": data_type, "dims": list(spec.shape)}


def _duration(count: int, total_ns: int) -> dict[str, int]:
    return {"count": count, "ns": total_ns}
