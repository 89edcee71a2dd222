"""Tensors of tasks: JSON in, JSON out."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from plumbline.contracts.inference import Tensors
from plumbline.contracts.models import ModelMetadata
from plumbline.serving.open_inference.datatypes import datatype_of
from plumbline.serving.open_inference.limits import TensorLimits
from plumbline.serving.open_inference.tensors import array_from_json, array_from_values, verify_tensor
from plumbline.serving.tasks.refusals import TaskRequestRefused
from plumbline.serving.tasks.request import JsonTensor, TaskRequest

__all__ = ["input_arrays", "output_documents", "tensors_of"]

LIMITS = TensorLimits()


def tensors_of(request: TaskRequest, limits: TensorLimits = LIMITS) -> dict[str, np.ndarray]:
    """The arrays of `inputs`.

    Raises:
        PlumblineError: a tensor that is not one (validation.tensor, validation.tensor_too_large).
    """
    return {tensor.name: _array(tensor, limits) for tensor in request.inputs}


def input_arrays(request: TaskRequest, metadata: ModelMetadata) -> dict[str, np.ndarray]:
    """All arrays of a request; texts go to the one input of the model that takes them.

    Raises:
        TaskRequestRefused: the model takes no texts, or in several inputs.
    """
    if request.text is None:
        return tensors_of(request)
    takers = [spec.name for spec in metadata.inputs if spec.datatype == "BYTES"]
    if len(takers) != 1 or len(metadata.inputs) != 1:
        names = ", ".join(spec.name for spec in metadata.inputs)
        raise TaskRequestRefused(reason=f"{metadata.ref} does not take `text`; its inputs are {names}")
    texts = request.texts
    return {takers[0]: array_from_values(takers[0], "BYTES", [len(texts)], texts)}


def output_documents(outputs: Tensors, metadata: ModelMetadata | None = None) -> list[dict[str, Any]]:
    """Outputs as JSON. Numbers that JSON lacks are the texts `NaN`, `Infinity`, `-Infinity`; bytes that are
    not UTF-8 are base64, and say so in `encoding`.
    """
    declared = {} if metadata is None else {spec.name: spec.datatype for spec in metadata.outputs}
    return [_document(name, array, declared.get(name)) for name, array in outputs.items()]


def _array(tensor: JsonTensor, limits: TensorLimits) -> np.ndarray:
    count = verify_tensor(tensor.name, tensor.datatype, tensor.shape, limits)
    try:
        data = msgspec.json.encode(tensor.data)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        reason = f"the data of input {tensor.name[:40]!r} is not JSON ({type(error).__name__})"
        raise TaskRequestRefused(reason=reason) from None
    return array_from_json(tensor.name, tensor.datatype, tensor.shape, count, data)


def _document(name: str, array: np.ndarray, declared: str | None) -> dict[str, Any]:
    datatype = declared or datatype_of(array) or "BYTES"
    document: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
    flat = array.reshape(-1)
    if array.dtype == object:
        return {**document, **_texts([bytes(item) for item in flat])}
    values: list[Any] = flat.tolist()
    if array.dtype.kind == "f" and not np.isfinite(flat).all():
        values = [value if np.isfinite(value) else _word(value) for value in values]
    return {**document, "data": values}


def _texts(items: Sequence[bytes]) -> Mapping[str, Any]:
    try:
        return {"data": [item.decode() for item in items]}
    except UnicodeDecodeError:
        return {"encoding": "base64", "data": [base64.b64encode(item).decode() for item in items]}


def _word(value: float) -> str:
    if np.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
