"""The body of `/infer` into an `InferenceCall`: JSON, alone or followed by binary tensor data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np

from plumbline.contracts.inference import InferenceCall
from plumbline.serving.open_inference.exchange import Asked
from plumbline.serving.open_inference.limits import TensorLimits
from plumbline.serving.open_inference.refusals import (
    ExtensionRefused,
    NotJson,
    ParameterRefused,
    ProtocolRefused,
    TensorRefused,
    TensorTooLarge,
)
from plumbline.serving.open_inference.scheduling_parameters import NO_TERMS, Terms, read_terms
from plumbline.serving.open_inference.sixteen_bits import SIXTEEN_BITS
from plumbline.serving.open_inference.tensors import array_from_json, array_from_raw, verify_tensor

__all__ = ["InferRequest", "WantedOutput", "decode_infer_request", "wanted_output"]

_SHARED_MEMORY = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")
_NOTHING = msgspec.Raw()

Plain = str | int | float | bool | None


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Plain] | None = None
    data: msgspec.Raw = _NOTHING


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Plain] | None = None


class _Body(msgspec.Struct):
    inputs: list[_Input]
    id: str = ""
    parameters: dict[str, Plain] | None = None
    outputs: list[_Output] | None = None


_decoder = msgspec.json.Decoder(_Body)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedOutput:
    """How an output shall travel.

    Attributes:
        binary: as binary data; None: as the request says for all.
        classes: of the classification extension: how many top classes instead of the values, or 0.
    """

    binary: bool | None = None
    classes: int = 0


class InferRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded request.

    Attributes:
        call: what to infer.
        client_id: the `id` of the body, echoed and otherwise without meaning.
        binary_outputs: whether outputs travel as binary data unless they say otherwise.
        outputs: how the wanted ones travel, by name; empty when all are wanted.
        sixteen_bits: name and datatype of the inputs that are `BF16` or `UINT16`.
    """

    call: InferenceCall
    client_id: str
    binary_outputs: bool
    outputs: Mapping[str, WantedOutput]
    sixteen_bits: tuple[tuple[str, str], ...] = ()


def decode_infer_request(asked: Asked, model: str, version: str | None, limits: TensorLimits) -> InferRequest:
    """The request of a body.

    Args:
        asked: with the body, inflated.
        model: from the path.
        version: from the path, or None.
        limits: of tensors.

    Raises:
        NotJson: the document cannot be read.
        ProtocolRefused: its parts do not fit together.
        TensorRefused, TensorTooLarge: an input, by name.
        ParameterRefused, ExtensionRefused: a parameter, by name.
    """
    document, binary = _split(asked, limits)
    try:
        body = _decoder.decode(document)
    except msgspec.MsgspecError as error:
        raise NotJson(reason=str(error)) from None
    except (RecursionError, UnicodeDecodeError):
        raise NotJson(reason="it is nested too deep or not UTF-8") from None
    if len(body.id) > limits.max_name_bytes:
        raise ProtocolRefused(reason=f"id is longer than {limits.max_name_bytes} characters")
    terms = read_terms(body.parameters, limits) if body.parameters else NO_TERMS
    outputs = _wanted(body.outputs, limits) if body.outputs else _ALL
    return InferRequest(
        call=_call(asked, model, version, _inputs(body.inputs, binary, limits), tuple(outputs), terms),
        client_id=body.id,
        binary_outputs=terms.binary_outputs,
        outputs=outputs,
        sixteen_bits=tuple([(t.name, t.datatype) for t in body.inputs if t.datatype in SIXTEEN_BITS]),
    )


def wanted_output(name: str, parameters: Mapping[str, Any] | None) -> WantedOutput:
    """How an output shall travel, from its parameters.

    Raises:
        ParameterRefused: a wrong value or an unknown parameter.
        ExtensionRefused: shared memory.
    """
    if not parameters:
        return _AS_ASKED
    binary, classes = parameters.get("binary_data"), parameters.get("classification", 0)
    if "binary_data" in parameters and not isinstance(binary, bool):
        raise ParameterRefused(parameter="binary_data", reason="expected true or false")
    if isinstance(classes, bool) or not isinstance(classes, int) or not 0 <= classes < 2**31:
        raise ParameterRefused(parameter="classification", reason="expected a number of classes")
    _verify_names(name, parameters, ("binary_data", "classification"))
    return WantedOutput(binary=binary, classes=classes)


_AS_ASKED = WantedOutput()
_ALL: Mapping[str, WantedOutput] = MappingProxyType({})
_NO_BINARY = memoryview(b"")


def _split(asked: Asked, limits: TensorLimits) -> tuple[bytes | memoryview, memoryview]:
    body = asked.body
    header = asked.headers.get(b"inference-header-content-length")
    length = len(body)
    if header is not None:
        if not (header.isdigit() and len(header) < 16 and int(header) <= length):
            reason = "Inference-Header-Content-Length is not a length within the body"
            raise ProtocolRefused(reason=reason)
        length = int(header)
    if length > limits.max_json_bytes:
        raise TensorTooLarge(
            tensor="*", what="the size of the JSON part", given=length, limit=limits.max_json_bytes
        )
    if length == len(body):
        return body, _NO_BINARY
    view = memoryview(body)
    return view[:length], view[length:]


def _inputs(declared: Sequence[_Input], binary: memoryview, limits: TensorLimits) -> dict[str, np.ndarray]:
    if len(declared) > limits.max_tensors:
        raise ProtocolRefused(reason=f"{len(declared)} inputs, at most {limits.max_tensors}")
    inputs: dict[str, np.ndarray] = {}
    offset = 0
    for tensor in declared:
        name, datatype, shape = tensor.name, tensor.datatype, tensor.shape
        count = verify_tensor(name, datatype, shape, limits)
        if name in inputs:
            raise TensorRefused(tensor=name, reason="is given twice")
        size = _binary_size(name, tensor.parameters) if tensor.parameters else None
        if size is None:
            inputs[name] = _json_input(tensor, count)
        else:
            if len(tensor.data) or size > len(binary) - offset:
                raise TensorRefused(
                    tensor=name, reason="has JSON data too, or more binary data than was sent"
                )
            inputs[name] = array_from_raw(name, datatype, shape, count, binary[offset : offset + size])
            offset += size
    if offset != len(binary):
        reason = f"{len(binary)} bytes of binary data, the inputs take {offset}"
        raise ProtocolRefused(reason=reason)
    return inputs


def _json_input(tensor: _Input, count: int) -> np.ndarray:
    if not len(tensor.data):
        raise TensorRefused(tensor=tensor.name, reason="has no data")
    return array_from_json(tensor.name, tensor.datatype, tensor.shape, count, bytes(tensor.data))


def _binary_size(name: str, parameters: Mapping[str, Any]) -> int | None:
    _verify_names(name, parameters, ("binary_data_size",))
    size = parameters.get("binary_data_size")
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise ParameterRefused(parameter="binary_data_size", reason=f"of {name!r}: expected a size in bytes")
    return size


def _verify_names(name: str, parameters: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for parameter in parameters:
        if parameter in _SHARED_MEMORY:
            raise ExtensionRefused(extension="shared memory", reason=f"asked for by {name[:64]!r}")
        if parameter not in known:
            raise ParameterRefused(parameter=parameter[:64], reason=f"is not known for {name[:64]!r}")


def _wanted(outputs: Sequence[_Output], limits: TensorLimits) -> Mapping[str, WantedOutput]:
    wanted: dict[str, WantedOutput] = {}
    if len(outputs) > limits.max_tensors:
        raise ProtocolRefused(reason=f"{len(outputs)} outputs, at most {limits.max_tensors}")
    for output in outputs:
        if output.name in wanted:
            raise TensorRefused(tensor=output.name[:64], reason="is wanted twice")
        wanted[output.name] = wanted_output(output.name, output.parameters)
    return wanted


def _call(
    asked: Asked,
    model: str,
    version: str | None,
    inputs: Mapping[str, np.ndarray],
    wanted: tuple[str, ...],
    terms: Terms,
) -> InferenceCall:
    arrived = asked.arrived_ns
    start, finish = terms.start_within_ns, terms.finish_within_ns
    traceparent = asked.headers.get(b"traceparent")
    return InferenceCall(
        id=asked.request_id,
        model=model,
        version=version,
        inputs=inputs,
        wanted=wanted,
        tenant=asked.principal.tenant,
        priority=terms.priority,
        arrived_ns=arrived,
        start_by_ns=None if start is None else arrived + start,
        deadline_ns=None if finish is None else arrived + finish,
        parameters=terms.custom,
        traceparent=traceparent.decode("latin-1") if traceparent and len(traceparent) <= 64 else "",
        protocol="rest",
    )
