"""Tensors of `/v2` inference as a client writes and reads them: JSON, or JSON with binary tensor data."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from plumbline.errors import ValidationError
from plumbline.product.client.refusals import AnswerUnreadable
from plumbline.product.client.transport import Reply
from plumbline.serving.open_inference.datatypes import datatype_of, dtype_of

__all__ = [
    "HEADER_LENGTH",
    "InferAnswer",
    "InputNotTensor",
    "decode_answer",
    "encode_inputs",
    "tensor_document",
]

HEADER_LENGTH = "inference-header-content-length"

Value = np.ndarray | Sequence[str | bytes]


@dataclass(eq=False, kw_only=True)
class InputNotTensor(ValidationError):
    """An input that no tensor of the protocol can hold."""

    code = "validation.client_input"
    owner = "product"
    template = "input {name!r}: {reason}"

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InferAnswer:
    """A result.

    Attributes:
        model, version: that answered.
        outputs: arrays by name; `BYTES` as an array of dtype object whose elements are `bytes`, `BF16` as its
            bits in uint16.
        datatypes: of the outputs, as the protocol names them.
        request_id: for `Client.explain`.
        parameters: of the answer.
    """

    model: str
    version: str
    outputs: Mapping[str, np.ndarray]
    datatypes: Mapping[str, str]
    request_id: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


def encode_inputs(
    inputs: Mapping[str, Value], datatypes: Mapping[str, str], *, binary: bool
) -> tuple[list[dict[str, Any]], bytes]:
    """Members `inputs` of the request, and the binary data that follows it (empty where not `binary`).

    Raises:
        InputNotTensor: naming the input.
    """
    documents, parts = [], []
    for name, value in inputs.items():
        array, datatype = _array(name, value, datatypes.get(name))
        if binary:
            data = _pack(array) if datatype == "BYTES" else _little_endian(array).tobytes()
            document = _head(name, datatype, array)
            documents.append({**document, "parameters": {"binary_data_size": len(data)}})
            parts.append(data)
        else:
            documents.append({**_head(name, datatype, array), "data": _json_data(name, datatype, array)})
    return documents, b"".join(parts)


def tensor_document(name: str, value: Value, datatype: str | None = None) -> dict[str, Any]:
    """One tensor as JSON, as tasks take it.

    Raises:
        InputNotTensor: naming the input.
    """
    array, found = _array(name, value, datatype)
    return {**_head(name, found, array), "data": _json_data(name, found, array)}


def decode_answer(reply: Reply) -> InferAnswer:
    """The result in an answer.

    Raises:
        AnswerUnreadable: it holds no result.
    """
    try:
        head = int(reply.headers.get(HEADER_LENGTH, len(reply.body)))
        document = json.loads(reply.body[:head])
        binary = memoryview(reply.body)[head:]
        outputs, datatypes = {}, {}
        for output in document["outputs"]:
            name, datatype = output["name"], output["datatype"]
            size = (output.get("parameters") or {}).get("binary_data_size")
            if size is None:
                outputs[name] = _from_json(output)
            else:
                outputs[name] = _from_binary(output, binary[:size])
                binary = binary[size:]
            datatypes[name] = datatype
        return InferAnswer(
            model=str(document["model_name"]),
            version=str(document.get("model_version", "")),
            outputs=outputs,
            datatypes=datatypes,
            request_id=reply.headers.get("x-request-id", ""),
            parameters=document.get("parameters") or {},
        )
    except (KeyError, TypeError, ValueError, AttributeError, struct.error, RecursionError) as error:
        raise AnswerUnreadable(
            operation=reply.operation, status=reply.status, reason=f"no result ({type(error).__name__})"
        ) from None


def _head(name: str, datatype: str, array: np.ndarray) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(array.shape)}


def _array(name: str, value: Value, datatype: str | None) -> tuple[np.ndarray, str]:
    if isinstance(value, np.ndarray) and value.dtype.kind not in "OSU":
        found = datatype or datatype_of(np.empty(0, value.dtype.newbyteorder("=")))
        if found is None:
            raise InputNotTensor(name=name, reason=f"the protocol has no {value.dtype}")
        return value, found
    if isinstance(value, str | bytes):
        raise InputNotTensor(name=name, reason="a text alone is no tensor; give a list of texts")
    given = value if isinstance(value, np.ndarray) else np.array(list(value), dtype=object)
    elements = np.empty(given.shape, dtype=object)
    for index, element in np.ndenumerate(given):
        if not isinstance(element, str | bytes):
            raise InputNotTensor(name=name, reason=f"{type(element).__name__} is neither text nor bytes")
        elements[index] = element.encode() if isinstance(element, str) else bytes(element)
    return elements, "BYTES"


def _json_data(name: str, datatype: str, array: np.ndarray) -> list[Any]:
    flat = array.reshape(-1)
    if datatype == "BYTES":
        try:
            return [element.decode() for element in flat.tolist()]
        except UnicodeDecodeError:
            raise InputNotTensor(name=name, reason="bytes that are no UTF-8 travel as binary data") from None
    if array.dtype.kind == "f" and not np.isfinite(flat).all():
        raise InputNotTensor(name=name, reason="NaN and infinity travel as binary data")
    found: list[Any] = flat.tolist()
    return found


def _little_endian(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def _pack(array: np.ndarray) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in array.reshape(-1).tolist())


def _from_json(output: Mapping[str, Any]) -> np.ndarray:
    shape = tuple(output["shape"])
    if output["datatype"] == "BYTES":
        flat = [item.encode() if isinstance(item, str) else bytes(item) for item in _flat(output["data"])]
        return _objects(flat, shape)
    return np.array(output["data"], _dtype(output["datatype"])).reshape(shape)


def _from_binary(output: Mapping[str, Any], data: memoryview) -> np.ndarray:
    shape = tuple(output["shape"])
    if output["datatype"] != "BYTES":
        return np.frombuffer(data, _dtype(output["datatype"])).reshape(shape)
    elements, offset = [], 0
    while offset < len(data):
        (size,) = struct.unpack_from("<I", data, offset)
        end = offset + 4 + size
        if end > len(data):
            raise ValueError("an element is longer than the data")
        elements.append(bytes(data[offset + 4 : end]))
        offset = end
    return _objects(elements, shape)


def _objects(elements: list[bytes], shape: tuple[int, ...]) -> np.ndarray:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array.reshape(shape)


def _flat(data: Any) -> list[Any]:
    return [item for part in data for item in _flat(part)] if isinstance(data, list) else [data]


def _dtype(datatype: str) -> np.dtype[Any]:
    found = dtype_of(datatype)
    if found is None:
        raise ValueError(datatype)
    return found
