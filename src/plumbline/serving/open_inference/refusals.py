"""What a request of the Open Inference Protocol is refused for."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.errors import DecodingError, ValidationError

__all__ = [
    "ExtensionRefused",
    "NotJson",
    "OutputNotJson",
    "ParameterRefused",
    "ProtocolRefused",
    "TensorRefused",
    "TensorTooLarge",
]


@dataclass(eq=False, kw_only=True)
class NotJson(ValidationError):
    """A body, or the JSON part of one, that is not the JSON document that the route reads."""

    code = "validation.json"
    owner = "serving.open_inference"
    template = "the JSON document: {reason}"

    reason: str


@dataclass(eq=False, kw_only=True)
class ProtocolRefused(ValidationError):
    """An inference request whose parts do not fit together."""

    code = "validation.inference_request"
    owner = "serving.open_inference"
    template = "inference request: {reason}"

    reason: str


@dataclass(eq=False, kw_only=True)
class TensorRefused(ValidationError):
    """A tensor of a request whose name, datatype, shape or data is not right."""

    code = "validation.tensor"
    owner = "serving.open_inference"
    template = "tensor {tensor!r}: {reason}"

    tensor: str
    reason: str


@dataclass(eq=False, kw_only=True)
class TensorTooLarge(ValidationError):
    """A tensor beyond the limits of the gateway."""

    code = "validation.tensor_too_large"
    owner = "serving.open_inference"
    template = "tensor {tensor!r}: {what} is {given}, at most {limit}"

    tensor: str
    what: str
    given: int
    limit: int


@dataclass(eq=False, kw_only=True)
class ParameterRefused(ValidationError):
    """A parameter of the protocol with a value that it cannot have."""

    code = "validation.inference_parameter"
    owner = "serving.open_inference"
    template = "parameter {parameter!r}: {reason}"

    parameter: str
    reason: str


@dataclass(eq=False, kw_only=True)
class ExtensionRefused(ValidationError):
    """An extension of the protocol that this server does not have."""

    code = "validation.extension_unsupported"
    owner = "serving.open_inference"
    template = "the {extension} extension is not offered: {reason}"

    extension: str
    reason: str


@dataclass(eq=False, kw_only=True)
class OutputNotJson(DecodingError):
    """An output with values that JSON cannot hold, asked for as JSON."""

    code = "decoding.output_not_json"
    owner = "serving.open_inference"
    http_status = 406
    template = "output {output!r} {reason}; ask for it with binary_data"

    output: str
    reason: str
