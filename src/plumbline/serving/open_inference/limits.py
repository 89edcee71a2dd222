"""Limits of one inference request, whatever carries it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TensorLimits"]

_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorLimits:
    """Attributes:
    max_json_bytes: of the JSON part of one request; larger tensors travel as binary data.
    max_tensor_bytes: of one tensor in memory.
    max_tensor_elements: of one tensor.
    max_tensor_rank: dimensions of one tensor.
    max_tensors: inputs of one request, and its wanted outputs.
    max_name_bytes: of a tensor, model, version or parameter name.
    max_parameters: of one request, tensor or output.
    """

    max_json_bytes: int = 16 * _MIB
    max_tensor_bytes: int = 256 * _MIB
    max_tensor_elements: int = 64 * _MIB
    max_tensor_rank: int = 32
    max_tensors: int = 256
    max_name_bytes: int = 256
    max_parameters: int = 64
