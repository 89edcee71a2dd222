"""Documents of models as messages."""

from __future__ import annotations

from plumbline.contracts.models import ModelMetadata
from plumbline.serving.grpc import open_inference_pb2 as pb
from plumbline.serving.open_inference.documents import (
    model_config_document,
    model_metadata_document,
    statistics_document,
)
from plumbline.serving.ports import VersionStatistics

__all__ = ["config_message", "metadata_message", "statistics_message"]


def metadata_message(metadata: ModelMetadata, versions: list[str]) -> pb.ModelMetadataResponse:
    """The metadata of a model."""
    return pb.ModelMetadataResponse(**model_metadata_document(metadata, versions))


def config_message(metadata: ModelMetadata) -> pb.ModelConfig:
    """The configuration of a version."""
    document = model_config_document(metadata)
    parameters = document.pop("parameters")
    config = pb.ModelConfig(**document)
    for name, parameter in parameters.items():
        config.parameters[name].string_value = parameter["string_value"]
    return config


def statistics_message(entry: VersionStatistics) -> pb.ModelStatistics:
    """The statistics of a version."""
    return pb.ModelStatistics(**statistics_document(entry))
