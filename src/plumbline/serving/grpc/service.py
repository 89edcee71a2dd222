"""The methods of `GRPCInferenceService` over the ports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from plumbline.serving.gateway.flights import Flights
from plumbline.serving.gateway.parts import Gateway
from plumbline.serving.grpc import open_inference_pb2 as pb
from plumbline.serving.grpc.calls import (
    Calls,
    Context,
    Handle,
    as_error_message,
    nothing_more,
    read_message,
)
from plumbline.serving.grpc.config_messages import config_message, metadata_message, statistics_message
from plumbline.serving.grpc.messages import Caller, infer_call, infer_response, plain_parameters
from plumbline.serving.open_inference.documents import EXTENSIONS, index_document, ready_versions
from plumbline.serving.open_inference.refusals import ExtensionRefused, ParameterRefused
from plumbline.serving.open_inference.repository_parameters import read_load, read_unload
from plumbline.serving.open_inference.sixteen_bits import SIXTEEN_BITS, verify_sixteen_bits
from plumbline.serving.ports import Permission

__all__ = ["SERVICE", "InferenceGrpc"]

SERVICE = "inference.GRPCInferenceService"
_UNREAD = pb.ModelInferRequest()


class InferenceGrpc:
    """Answers every method. Owns nothing."""

    def __init__(self, parts: Gateway, flights: Flights) -> None:
        self._parts, self._calls = parts, Calls(parts, flights)
        self._flights = flights

    def handlers(self) -> grpc.GenericRpcHandler:
        """The methods, by name."""
        read, infer, models = Permission.READ, Permission.INFER, Permission.MODELS
        table: list[tuple[str, Handle, Permission | None]] = [
            ("ServerLive", self._server_live, None),
            ("ServerReady", self._server_ready, None),
            ("ModelReady", self._model_ready, None),
            ("ServerMetadata", self._server_metadata, read),
            ("ModelMetadata", self._model_metadata, read),
            ("ModelInfer", self._model_infer, infer),
            ("ModelConfig", self._model_config, read),
            ("ModelStatistics", self._model_statistics, read),
            ("RepositoryIndex", self._repository_index, read),
            ("RepositoryModelLoad", self._repository_load, models),
            ("RepositoryModelUnload", self._repository_unload, models),
            ("TraceSetting", self._trace_setting, models),
            ("LogSettings", self._no_logging, models),
        ]
        for kind in ("System", "Cuda"):
            for verb in ("Status", "Register", "Unregister"):
                table.append((f"{kind}SharedMemory{verb}", self._no_shared_memory, infer))
        methods = {name: self._unary(name, handle, permission) for name, handle, permission in table}
        methods["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._stream_infer,
            response_serializer=pb.ModelStreamInferResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _unary(self, name: str, handle: Handle, permission: Permission | None) -> Any:
        request: Any = getattr(pb, f"{name}Request")
        response: Any = getattr(pb, f"{name}Response")
        return grpc.unary_unary_rpc_method_handler(
            self._calls.guarded(handle, request, permission),
            response_serializer=response.SerializeToString,
        )

    async def _server_live(self, request: pb.ServerLiveRequest, caller: Caller) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=self._parts.health.is_live())

    async def _server_ready(self, request: pb.ServerReadyRequest, caller: Caller) -> pb.ServerReadyResponse:
        ready, _ = self._parts.health.readiness()
        return pb.ServerReadyResponse(ready=ready and not self._flights.is_draining)

    async def _model_ready(self, request: pb.ModelReadyRequest, caller: Caller) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=self._parts.models.is_ready(request.name, request.version or None))

    async def _server_metadata(
        self, request: pb.ServerMetadataRequest, caller: Caller
    ) -> pb.ServerMetadataResponse:
        options = self._parts.options
        return pb.ServerMetadataResponse(name=options.name, version=options.version, extensions=EXTENSIONS)

    async def _model_metadata(
        self, request: pb.ModelMetadataRequest, caller: Caller
    ) -> pb.ModelMetadataResponse:
        metadata = self._parts.models.metadata(request.name, request.version or None)
        return metadata_message(metadata, ready_versions(self._parts.models, request.name))

    async def _model_config(self, request: pb.ModelConfigRequest, caller: Caller) -> pb.ModelConfigResponse:
        metadata = self._parts.models.metadata(request.name, request.version or None)
        return pb.ModelConfigResponse(config=config_message(metadata))

    async def _model_statistics(
        self, request: pb.ModelStatisticsRequest, caller: Caller
    ) -> pb.ModelStatisticsResponse:
        name, version = request.name or None, request.version or None
        if name is not None:
            self._parts.models.metadata(name, version)
        entries = self._parts.models.statistics(name, version)
        return pb.ModelStatisticsResponse(model_stats=[statistics_message(entry) for entry in entries])

    async def _repository_index(
        self, request: pb.RepositoryIndexRequest, caller: Caller
    ) -> pb.RepositoryIndexResponse:
        entries = index_document(self._parts.models.statuses(), request.ready)
        return pb.RepositoryIndexResponse(
            models=[pb.RepositoryIndexResponse.ModelIndex(**entry) for entry in entries]
        )

    async def _repository_load(
        self, request: pb.RepositoryModelLoadRequest, caller: Caller
    ) -> pb.RepositoryModelLoadResponse:
        version, settings = read_load(plain_parameters(request.parameters))
        await self._parts.models.load(request.model_name, version, settings)
        return pb.RepositoryModelLoadResponse()

    async def _repository_unload(
        self, request: pb.RepositoryModelUnloadRequest, caller: Caller
    ) -> pb.RepositoryModelUnloadResponse:
        version = read_unload(plain_parameters(request.parameters))
        await self._parts.models.unload(request.model_name, version)
        return pb.RepositoryModelUnloadResponse()

    async def _trace_setting(
        self, request: pb.TraceSettingRequest, caller: Caller
    ) -> pb.TraceSettingResponse:
        model = request.model_name or None
        if model is not None:
            self._parts.models.metadata(model)
        if len(request.settings) > 64:
            raise ParameterRefused(parameter="*", reason="more than 64 settings")
        given = {name: list(setting.value) or None for name, setting in request.settings.items()}
        settings = self._parts.trace.update(given, model) if given else self._parts.trace.read(model)
        response = pb.TraceSettingResponse()
        for name, values in settings.items():
            response.settings[name].value.extend(values)
        return response

    async def _no_logging(self, request: pb.LogSettingsRequest, caller: Caller) -> pb.LogSettingsResponse:
        raise ExtensionRefused(extension="logging", reason="log settings belong to the operator")

    async def _no_shared_memory(self, request: Any, caller: Caller) -> Any:
        raise ExtensionRefused(extension="shared memory", reason="send tensors in the message")

    async def _model_infer(self, request: pb.ModelInferRequest, caller: Caller) -> pb.ModelInferResponse:
        parts = self._parts
        call, wanted = infer_call(request, caller, parts.limits.tensors)
        ambiguous = [(t.name, t.datatype) for t in request.inputs if t.datatype in SIXTEEN_BITS]
        if ambiguous:
            verify_sixteen_bits(ambiguous, parts.models, call.model, call.version)
        result = await parts.inference.infer(call)
        if parts.trace.is_on:
            parts.trace.record(call, result)
        return infer_response(request.id, wanted, result, parts.models)

    async def _stream_infer(
        self, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """One answer per request, in their order. An error answers its request; the stream goes on."""
        async for raw in requests:
            request = _UNREAD
            request_id = self._calls.new_id()
            arrived_ns = self._parts.clock.now_ns()
            entered = False
            try:
                caller = await self._calls.caller(context, request_id, Permission.INFER, arrived_ns)
                self._flights.enter(request_id, nothing_more)
                entered = True
                request = read_message(pb.ModelInferRequest, raw)
                response = await self._model_infer(request, caller)
                response.parameters["triton_final_response"].bool_param = True
                answer = pb.ModelStreamInferResponse(infer_response=response)
            except Exception as error:  # noqa: BLE001 (one unit of work fails as our bug)
                failed = pb.ModelInferResponse(model_name=request.model_name[:256], id=request.id[:256])
                text = as_error_message(error, request_id)
                answer = pb.ModelStreamInferResponse(error_message=text, infer_response=failed)
            finally:
                if entered:
                    self._flights.leave(request_id)
            yield answer
