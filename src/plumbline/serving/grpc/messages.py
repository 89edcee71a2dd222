"""Messages of the protocol to calls, and results to messages."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.contracts.identity import Principal
from plumbline.contracts.inference import InferenceCall, InferenceResult
from plumbline.contracts.requests import RequestId
from plumbline.serving.grpc import open_inference_pb2 as pb
from plumbline.serving.open_inference.classification import classify
from plumbline.serving.open_inference.infer_request import WantedOutput, wanted_output
from plumbline.serving.open_inference.infer_response import is_batched, output_datatype, raw_bytes
from plumbline.serving.open_inference.limits import TensorLimits
from plumbline.serving.open_inference.refusals import (
    ExtensionRefused,
    ParameterRefused,
    ProtocolRefused,
    TensorRefused,
)
from plumbline.serving.open_inference.scheduling_parameters import read_terms
from plumbline.serving.open_inference.tensors import array_from_raw, array_from_values, verify_tensor
from plumbline.serving.ports import ModelDirectory

__all__ = ["Caller", "infer_call", "infer_response", "plain_parameters"]

_CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls, when, and until when.

    Attributes:
        request_id: of the call.
        principal: who.
        arrived_ns: absolute monotonic.
        deadline_ns: of the gRPC call, None without.
        traceparent: W3C trace context, or empty.
    """

    request_id: RequestId
    principal: Principal
    arrived_ns: int
    deadline_ns: int | None = None
    traceparent: str = ""


def plain_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as plain values; one without a value is None."""
    plain: dict[str, Any] = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        plain[name] = None if choice is None else getattr(parameter, choice)
    return plain


def infer_call(
    request: pb.ModelInferRequest, caller: Caller, limits: TensorLimits
) -> tuple[InferenceCall, dict[str, WantedOutput]]:
    """The call of a request, and how its wanted outputs travel.

    Raises:
        PlumblineError: what is wrong with it, by name.
    """
    terms = read_terms(plain_parameters(request.parameters), limits)
    if len(request.id) > limits.max_name_bytes:
        raise ProtocolRefused(reason=f"id is longer than {limits.max_name_bytes} characters")
    wanted = _wanted(request, limits)
    arrived = caller.arrived_ns
    deadline = caller.deadline_ns
    if terms.finish_within_ns is not None:
        asked = arrived + terms.finish_within_ns
        deadline = asked if deadline is None else min(asked, deadline)
    call = InferenceCall(
        id=caller.request_id,
        model=request.model_name,
        version=request.model_version or None,
        inputs=_inputs(request, limits),
        wanted=tuple(wanted),
        tenant=caller.principal.tenant,
        priority=terms.priority,
        arrived_ns=arrived,
        start_by_ns=None if terms.start_within_ns is None else arrived + terms.start_within_ns,
        deadline_ns=deadline,
        parameters=terms.custom,
        traceparent=caller.traceparent,
        protocol="grpc",
    )
    return call, wanted


def infer_response(
    client_id: str, wanted: Mapping[str, WantedOutput], result: InferenceResult, models: ModelDirectory
) -> pb.ModelInferResponse:
    """The message of a result; all outputs travel raw."""
    response = pb.ModelInferResponse(
        model_name=result.served_by.model, model_version=result.served_by.version, id=client_id
    )
    for name, value in result.outputs.items():
        how, array = wanted.get(name), value
        if how is not None and how.classes:
            array = classify(name, value, how.classes, is_batched(result, models))
        output = response.outputs.add()
        output.name = name
        output.datatype = output_datatype(name, array, result, models)
        output.shape.extend(array.shape)
        response.raw_output_contents.append(raw_bytes(array))
    return response


def _inputs(request: pb.ModelInferRequest, limits: TensorLimits) -> MutableMapping[str, np.ndarray]:
    declared, raw = request.inputs, request.raw_input_contents
    if len(declared) > limits.max_tensors:
        raise ProtocolRefused(reason=f"{len(declared)} inputs, at most {limits.max_tensors}")
    if raw and len(raw) != len(declared):
        raise ProtocolRefused(reason=f"{len(raw)} raw contents for {len(declared)} inputs")
    inputs: dict[str, np.ndarray] = {}
    for index, tensor in enumerate(declared):
        name, shape = tensor.name, tuple(tensor.shape)
        count = verify_tensor(name, tensor.datatype, shape, limits)
        if name in inputs:
            raise TensorRefused(tensor=name, reason="is given twice")
        _verify_input_parameters(name, tensor.parameters)
        if raw:
            if tensor.HasField("contents"):
                raise TensorRefused(tensor=name, reason="has contents and raw contents")
            inputs[name] = array_from_raw(name, tensor.datatype, shape, count, memoryview(raw[index]))
        else:
            inputs[name] = _from_contents(name, tensor.datatype, shape, count, tensor.contents)
    return inputs


def _from_contents(
    name: str, datatype: str, shape: tuple[int, ...], count: int, contents: pb.InferTensorContents
) -> np.ndarray:
    kind = _CONTENTS.get(datatype)
    if kind is None:
        raise TensorRefused(tensor=name, reason=f"{datatype} travels as raw contents only")
    for field, _ in contents.ListFields():
        if field.name != kind:
            raise TensorRefused(tensor=name, reason=f"{datatype} travels in {kind}, not in {field.name}")
    values = getattr(contents, kind)
    if len(values) != count:
        raise TensorRefused(tensor=name, reason=f"{len(values)} values, shape {list(shape)} has {count}")
    return array_from_values(name, datatype, shape, list(values), is_wire_float=True)


def _wanted(request: pb.ModelInferRequest, limits: TensorLimits) -> dict[str, WantedOutput]:
    if len(request.outputs) > limits.max_tensors:
        raise ProtocolRefused(reason=f"{len(request.outputs)} outputs, at most {limits.max_tensors}")
    wanted: dict[str, WantedOutput] = {}
    for output in request.outputs:
        if output.name in wanted:
            raise TensorRefused(tensor=output.name[:64], reason="is wanted twice")
        wanted[output.name] = wanted_output(output.name, plain_parameters(output.parameters))
    return wanted


def _verify_input_parameters(name: str, parameters: Mapping[str, Any]) -> None:
    for parameter in parameters:
        if parameter.startswith("shared_memory_"):
            raise ExtensionRefused(extension="shared memory", reason=f"asked for by {name[:64]!r}")
        if parameter != "binary_data_size":
            raise ParameterRefused(parameter=parameter[:64], reason=f"is not known for {name[:64]!r}")
