"""An `InferenceResult` as the answer of `/infer`: JSON, alone or followed by binary tensor data."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from plumbline.contracts.inference import InferenceResult
from plumbline.serving.open_inference.byte_strings import pack_byte_strings
from plumbline.serving.open_inference.classification import classify
from plumbline.serving.open_inference.datatypes import FLOATS, datatype_of
from plumbline.serving.open_inference.exchange import Answer
from plumbline.serving.open_inference.infer_request import InferRequest
from plumbline.serving.open_inference.refusals import OutputNotJson
from plumbline.serving.ports import ModelDirectory

__all__ = [
    "MAX_JSON_VALUES",
    "PART_VALUES",
    "encode_infer_response",
    "is_large",
    "output_datatype",
    "raw_bytes",
]

_OCTETS = b"application/octet-stream"
_encode = msgspec.json.Encoder().encode


_FEW_VALUES = 64
PART_VALUES = 1 << 16
"""Values written as JSON in one go. An answer with more belongs on a thread; there each part takes some
milliseconds, between which the event loop goes on."""
MAX_JSON_VALUES = 1 << 24
"""Values of one output that are written as JSON; more travel as binary data only."""


def is_large(result: InferenceResult) -> bool:
    """Whether writing the answer would hold up an event loop."""
    values = 0
    for array in result.outputs.values():
        values += array.size
    return values > PART_VALUES


def encode_infer_response(request: InferRequest, result: InferenceResult, models: ModelDirectory) -> Answer:
    """The answer.

    Raises:
        OutputNotJson: an output asked for as JSON holds NaN, infinity, bytes that are not text, or too much.
        ExtensionRefused: classification of an output that is not numeric.
    """
    outputs: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for name, array in result.outputs.items():
        wanted = request.outputs.get(name)
        as_binary = request.binary_outputs
        if wanted is not None:
            as_binary = as_binary if wanted.binary is None else wanted.binary
            if wanted.classes:
                array = classify(name, array, wanted.classes, is_batched(result, models))
        datatype = datatype_of(array)
        if datatype is None or datatype == "UINT16":
            datatype = output_datatype(name, array, result, models)
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": array.shape}
        if as_binary:
            raw = raw_bytes(array)
            output["parameters"] = {"binary_data_size": len(raw)}
            binary.append(raw)
        else:
            output["data"] = _plain_values(name, datatype, array)
        outputs.append(output)
    document: dict[str, Any] = {
        "model_name": result.served_by.model,
        "model_version": result.served_by.version,
        "outputs": outputs,
    }
    if request.client_id:
        document["id"] = request.client_id
    encoded = _encode(document)
    if not binary:
        return Answer(body=encoded)
    length = (b"inference-header-content-length", b"%d" % len(encoded))
    return Answer(body=b"".join((encoded, *binary)), media_type=_OCTETS, headers=(length,))


def output_datatype(name: str, array: np.ndarray, result: InferenceResult, models: ModelDirectory) -> str:
    """The datatype of an output. uint16 may be `UINT16` or `BF16`: the metadata of the version knows."""
    datatype = datatype_of(array)
    if datatype == "UINT16":
        metadata = models.metadata(result.served_by.model, result.served_by.version)
        return next((spec.datatype for spec in metadata.outputs if spec.name == name), datatype)
    if datatype is None:
        raise OutputNotJson(output=name, reason=f"has dtype {array.dtype}, which the protocol lacks")
    return datatype


def is_batched(result: InferenceResult, models: ModelDirectory) -> bool:
    """Whether the first axis of the outputs counts rows of a batch."""
    return models.metadata(result.served_by.model, result.served_by.version).max_rows > 0


def raw_bytes(array: np.ndarray) -> bytes:
    """An output as binary tensor data."""
    return pack_byte_strings(array) if array.dtype == object else array.tobytes()


def _plain_values(name: str, datatype: str, array: np.ndarray) -> list[Any] | msgspec.Raw:
    """The values in row-major order: as a list, or written already where there are many."""
    if datatype == "BF16":
        raise OutputNotJson(output=name, reason="is BF16, which travels as binary data only")
    if array.size > MAX_JSON_VALUES:
        raise OutputNotJson(output=name, reason=f"has {array.size} values, at most {MAX_JSON_VALUES} as JSON")
    flat = array.ravel()
    if flat.size <= _FEW_VALUES:
        values = _listed(name, datatype, flat)
        # a sum is finite only where every value is; one that is too large says nothing yet
        if datatype in FLOATS and not math.isfinite(sum(values)):
            _verify_finite(name, flat)
        return values
    if datatype in FLOATS:
        _verify_finite(name, flat)
    if flat.size <= PART_VALUES:
        return _listed(name, datatype, flat)
    starts = range(0, flat.size, PART_VALUES)
    parts = (_encode(_listed(name, datatype, flat[start : start + PART_VALUES]))[1:-1] for start in starts)
    return msgspec.Raw(b"[" + b",".join(parts) + b"]")


def _verify_finite(name: str, flat: np.ndarray) -> None:
    if not np.isfinite(flat).all():
        raise OutputNotJson(output=name, reason="holds values that are not finite")


def _listed(name: str, datatype: str, flat: np.ndarray) -> list[Any]:
    values: list[Any] = flat.tolist()
    if datatype != "BYTES":
        return values
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError:
        raise OutputNotJson(output=name, reason="holds bytes that are not UTF-8") from None
