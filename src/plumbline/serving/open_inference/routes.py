"""The routes of `/v2` over the ports."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from plumbline.contracts.clock import Clock
from plumbline.serving.open_inference.documents import (
    EXTENSIONS,
    index_document,
    model_config_document,
    model_metadata_document,
    ready_versions,
    statistics_document,
)
from plumbline.serving.open_inference.exchange import Answer, Asked
from plumbline.serving.open_inference.infer_request import decode_infer_request
from plumbline.serving.open_inference.infer_response import encode_infer_response, is_large
from plumbline.serving.open_inference.limits import TensorLimits
from plumbline.serving.open_inference.readiness import ModelNotReady, ServerNotReady
from plumbline.serving.open_inference.refusals import (
    ExtensionRefused,
    ParameterRefused,
    ProtocolRefused,
    TensorTooLarge,
)
from plumbline.serving.open_inference.repository_parameters import read_load, read_object, read_unload
from plumbline.serving.open_inference.route_table import Handle, Operation, Route
from plumbline.serving.open_inference.sixteen_bits import verify_sixteen_bits
from plumbline.serving.open_inference.trace_settings import TraceSettings
from plumbline.serving.ports import HealthService, InferenceService, ModelDirectory, Permission

__all__ = ["OpenInference"]

_JSON = (b"application/json",)
_INFER = (b"application/json", b"application/octet-stream")
_encode = msgspec.json.Encoder().encode

Values = Mapping[str, str]


class OpenInference:
    """Answers every route of `/v2`. Owns nothing; state lives behind the ports and in `trace`."""

    def __init__(
        self,
        *,
        inference: InferenceService,
        models: ModelDirectory,
        health: HealthService,
        trace: TraceSettings,
        limits: TensorLimits,
        clock: Clock,
        name: str,
        version: str,
    ) -> None:
        self._inference, self._models, self._health = inference, models, health
        self._trace, self._limits, self._clock = trace, limits, clock
        self._name, self._version = name, version

    def routes(self) -> list[Route]:
        """Every route, literal parts before placeholders."""
        read, models = Permission.READ, Permission.MODELS
        found = [
            _route("/v2", GET=(self._server, read)),
            _route("/v2/health/live", GET=(self._live, None)),
            _route("/v2/health/ready", GET=(self._ready, None)),
            _route("/v2/models/stats", GET=(self._statistics, read)),
            _route("/v2/repository/index", POST=(self._index, read)),
            _route("/v2/repository/models/{model}/load", POST=(self._load, models)),
            _route("/v2/repository/models/{model}/unload", POST=(self._unload, models)),
            _route("/v2/trace/setting", GET=(self._read_trace, read), POST=(self._set_trace, models)),
            _route(
                "/v2/models/{model}/trace/setting",
                GET=(self._read_trace, read),
                POST=(self._set_trace, models),
            ),
            _route("/v2/logging", GET=(self._no_logging, read), POST=(self._no_logging, models)),
        ]
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            found.append(_route(model, GET=(self._metadata, read)))
            found.append(_route(f"{model}/ready", GET=(self._model_ready, None)))
            found.append(_route(f"{model}/config", GET=(self._config, read)))
            found.append(_route(f"{model}/stats", GET=(self._statistics, read)))
            infer = Operation(handle=self._infer, permission=Permission.INFER, body=_INFER)
            found.append(Route(template=f"{model}/infer", operations={"POST": infer}))
        return found + self._shared_memory_routes()

    async def infer(self, asked: Asked, model: str, version: str | None) -> Answer:
        """The answer of `/infer`.

        Raises:
            PlumblineError: what is wrong with the request, or the outcome of the call.
        """
        request = decode_infer_request(asked, model, version, self._limits)
        if request.sixteen_bits:
            verify_sixteen_bits(request.sixteen_bits, self._models, model, version)
        result = await self._inference.infer(request.call)
        if self._trace.is_on:
            self._trace.record(request.call, result)
        if is_large(result):
            return await asyncio.to_thread(encode_infer_response, request, result, self._models)
        return encode_infer_response(request, result, self._models)

    async def _infer(self, asked: Asked, values: Values) -> Answer:
        return await self.infer(asked, values["model"], values.get("version"))

    async def _server(self, asked: Asked, values: Values) -> Answer:
        return _json({"name": self._name, "version": self._version, "extensions": EXTENSIONS})

    async def _live(self, asked: Asked, values: Values) -> Answer:
        if not self._health.is_live():
            raise ServerNotReady(reason="the event loop does not turn")
        return _json({"live": True})

    async def _ready(self, asked: Asked, values: Values) -> Answer:
        ready, checks = self._health.readiness()
        if not ready:
            raise ServerNotReady(reason="a check failed", checks=checks)
        return _json({"ready": True})

    async def _model_ready(self, asked: Asked, values: Values) -> Answer:
        model, version = values["model"], values.get("version")
        if not self._models.is_ready(model, version):
            raise ModelNotReady(model=model[:256], version=(version or "any")[:256])
        return _json({"name": model, "ready": True})

    async def _metadata(self, asked: Asked, values: Values) -> Answer:
        model = values["model"]
        metadata = self._models.metadata(model, values.get("version"))
        return _json(model_metadata_document(metadata, ready_versions(self._models, model)))

    async def _config(self, asked: Asked, values: Values) -> Answer:
        return _json(model_config_document(self._models.metadata(values["model"], values.get("version"))))

    async def _statistics(self, asked: Asked, values: Values) -> Answer:
        model, version = values.get("model"), values.get("version")
        if model is not None:
            self._models.metadata(model, version)
        entries = self._models.statistics(model, version)
        return _json({"model_stats": [statistics_document(entry) for entry in entries]})

    async def _index(self, asked: Asked, values: Values) -> Answer:
        ready = self._document(asked).get("ready", False)
        if not isinstance(ready, bool):
            raise ParameterRefused(parameter="ready", reason="expected true or false")
        return _json(index_document(self._models.statuses(), ready))

    async def _load(self, asked: Asked, values: Values) -> Answer:
        version, settings = read_load(self._parameters(asked))
        await self._models.load(values["model"], version, settings)
        return _json({})

    async def _unload(self, asked: Asked, values: Values) -> Answer:
        await self._models.unload(values["model"], read_unload(self._parameters(asked)))
        return _json({})

    async def _read_trace(self, asked: Asked, values: Values) -> Answer:
        model = values.get("model")
        if model is not None:
            self._models.metadata(model)
        return _json(_trace_document(self._trace.read(model)))

    async def _set_trace(self, asked: Asked, values: Values) -> Answer:
        model = values.get("model")
        if model is not None:
            self._models.metadata(model)
        settings: dict[str, list[str] | None] = {}
        for name, value in self._document(asked).items():
            texts = [value] if isinstance(value, str | int) else value
            if texts is not None and not (
                isinstance(texts, list) and all(isinstance(text, str | int) for text in texts)
            ):
                raise ParameterRefused(parameter=name[:64], reason="expected text or a list of texts")
            settings[name] = None if texts is None else [str(text) for text in texts]
        return _json(_trace_document(self._trace.update(settings, model)))

    async def _no_logging(self, asked: Asked, values: Values) -> Answer:
        raise ExtensionRefused(extension="logging", reason="log settings belong to the operator")

    async def _no_shared_memory(self, asked: Asked, values: Values) -> Answer:
        raise ExtensionRefused(
            extension="shared memory", reason="send tensors in the body, as JSON or binary data"
        )

    def _shared_memory_routes(self) -> list[Route]:
        found = []
        for kind in ("system", "cuda"):
            start, refuse = f"/v2/{kind}sharedmemory", self._no_shared_memory
            found.append(_route(f"{start}/status", GET=(refuse, Permission.READ)))
            found.append(_route(f"{start}/unregister", POST=(refuse, Permission.INFER)))
            found.append(_route(f"{start}/region/{{region}}/status", GET=(refuse, Permission.READ)))
            for verb in ("register", "unregister"):
                found.append(_route(f"{start}/region/{{region}}/{verb}", POST=(refuse, Permission.INFER)))
        return found

    def _document(self, asked: Asked) -> dict[str, Any]:
        if not asked.body:
            return {}
        size, limit = len(asked.body), self._limits.max_json_bytes
        if size > limit:
            raise TensorTooLarge(tensor="*", what="the size of the JSON part", given=size, limit=limit)
        return read_object(asked.body)

    def _parameters(self, asked: Asked) -> Mapping[str, Any]:
        parameters = self._document(asked).get("parameters", {})
        if not isinstance(parameters, dict):
            raise ProtocolRefused(reason="parameters: expected an object")
        return parameters


def _route(template: str, **operations: tuple[Handle, Permission | None]) -> Route:
    return Route(
        template=template,
        operations={
            method: Operation(handle=handle, permission=permission, body=_JSON if method == "POST" else ())
            for method, (handle, permission) in operations.items()
        },
    )


def _json(document: Any) -> Answer:
    return Answer(body=_encode(document))


def _trace_document(settings: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    return {name: list(values) if name == "trace_level" else values[0] for name, values in settings.items()}
