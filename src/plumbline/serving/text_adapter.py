"""`ServedTextAdapter`: a served version with one text input as an `AIModelAdapter`."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.contracts.adapters import ModelInfo
from plumbline.contracts.clock import Clock, MonotonicClock
from plumbline.contracts.inference import InferenceCall, Tensors
from plumbline.contracts.models import ModelMetadata
from plumbline.contracts.requests import LOCAL_TENANT, RequestId, TenantId
from plumbline.errors import DecodingError, ValidationError
from plumbline.serving.ports import InferenceService, ModelDirectory

__all__ = ["NoTextModel", "ServedTextAdapter", "TextUndecodable", "decode_first_text"]


@dataclass(eq=False, kw_only=True)
class NoTextModel(ValidationError):
    """A version that does not take exactly one text input."""

    code = "validation.no_text_model"
    owner = "serving"
    template = "{version} takes {inputs}; an adapter needs exactly one input, of datatype BYTES"

    version: str
    inputs: str


@dataclass(eq=False, kw_only=True)
class TextUndecodable(DecodingError):
    """The outputs of a run hold no text."""

    code = "decoding.text"
    owner = "serving"
    template = "the outputs hold no text: {reason}"

    reason: str


def decode_first_text(outputs: Tensors) -> str:
    """The first element of the first output of byte strings, as UTF-8.

    Raises:
        TextUndecodable: there is none, or it is not UTF-8.
    """
    for name, array in outputs.items():
        if array.dtype == object and array.size:
            try:
                return bytes(array.flat[0]).decode("utf-8")
            except (UnicodeDecodeError, TypeError) as error:
                raise TextUndecodable(
                    reason=f"output {name!r} is not UTF-8 ({type(error).__name__})"
                ) from error
    raise TextUndecodable(reason="no output of datatype BYTES has an element")


class ServedTextAdapter:
    """Implements `contracts.adapters.AIModelAdapter` over an inference service.

    Args:
        inference: runs calls.
        models: knows the interface of the model.
        model: name in the repository.
        version: a pinned one, or None: routing decides.
        tenant: for whom.
        decode: turns outputs into the text (requirement X-71).
        clock: stamps the arrival.
    """

    def __init__(
        self,
        inference: InferenceService,
        models: ModelDirectory,
        model: str,
        *,
        version: str | None = None,
        tenant: TenantId = LOCAL_TENANT,
        decode: Callable[[Tensors], str] = decode_first_text,
        clock: Clock | None = None,
    ) -> None:
        self._inference, self._models = inference, models
        self._model, self._version, self._tenant = model, version, tenant
        self._decode, self._clock = decode, clock or MonotonicClock()

    async def generate(self, prompt: str, parameters: Mapping[str, Any] | None = None) -> str:
        """The text that the version gives for a prompt.

        Raises:
            NoTextModel: the version is no such model.
            TextUndecodable: it answered without a text.
            PlumblineError: whatever the inference service says.
        """
        name = _text_input(self._models.metadata(self._model, self._version))
        call = InferenceCall(
            id=RequestId(f"text-{secrets.token_hex(8)}"),
            model=self._model,
            version=self._version,
            inputs={name: np.array([prompt.encode("utf-8")], dtype=object)},
            tenant=self._tenant,
            arrived_ns=self._clock.now_ns(),
            parameters=dict(parameters or {}),
        )
        return self._decode((await self._inference.infer(call)).outputs)

    def get_model_info(self) -> ModelInfo:
        """Of the version that would answer now."""
        return ModelInfo.of(self._models.metadata(self._model, self._version))


def _text_input(metadata: ModelMetadata) -> str:
    if len(metadata.inputs) == 1 and metadata.inputs[0].datatype == "BYTES":
        return metadata.inputs[0].name
    inputs = ", ".join(f"{spec.name} ({spec.datatype})" for spec in metadata.inputs) or "nothing"
    raise NoTextModel(version=str(metadata.ref), inputs=inputs)
