"""Questions to the running server, as any client asks them: over REST, and over gRPC."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np

from plumbline.product.client import Client
from plumbline.serving.grpc import open_inference_pb2 as pb
from plumbline.serving.grpc.service import SERVICE

__all__ = ["GrpcDoor", "Hit", "RestDoor"]

MODEL = "semantic-search"
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A documented name with the cosine between it and the question."""

    name: str
    text: str
    score: float


class RestDoor:
    """Asks over REST. `with` closes it.

    Args:
        address: `http://host:port`.
    """

    name = "REST"

    def __init__(self, address: str) -> None:
        self._client = Client(address, timeout_s=TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def ask(self, question: str, request_id: str) -> tuple[Hit, ...]:
        """The nearest passages, best first.

        Raises:
            ServerRefusal: as the server says it.
        """
        outputs = self._client.infer(MODEL, {"texts": [question]}, request_id=request_id).outputs
        rows = zip(outputs["names"][0], outputs["passages"][0], outputs["scores"][0], strict=True)
        return tuple(_hit(*row) for row in rows)

    def explain(self, request_id: str) -> list[str]:
        """Why a request ran when and where it did, as lines for people."""
        return [str(line) for line in self._client.explain(request_id)["lines"]]

    def memory(self, model: str) -> dict[str, int]:
        """Planned bytes of the served version of a model, by part."""
        versions = self._client.model(model)["versions"]
        return next((dict(one["memory"]) for one in versions if one["ready"]), {})


class GrpcDoor:
    """Asks over gRPC, with the messages of the protocol. `with` closes it.

    Args:
        address: `host:port`.
    """

    name = "gRPC"

    def __init__(self, address: str) -> None:
        self._channel: Any = grpc.insecure_channel(address)
        self._infer = self._channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def ask(self, question: str, request_id: str) -> tuple[Hit, ...]:
        """The nearest passages, best first.

        Raises:
            grpc.RpcError: as the server says it.
        """
        request = pb.ModelInferRequest(model_name=MODEL)
        tensor = request.inputs.add(name="texts", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(question.encode())
        answer = self._infer(request, timeout=TIMEOUT_S, metadata=(("x-request-id", request_id),))
        texts: dict[str, Any] = {}
        for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
            texts[output.name] = (
                _byte_strings(raw) if output.datatype == "BYTES" else np.frombuffer(raw, "<f4")
            )
        rows = zip(texts["names"], texts["passages"], texts["scores"], strict=True)
        return tuple(_hit(*row) for row in rows)


def _hit(name: bytes, text: bytes, score: float) -> Hit:
    return Hit(name=name.decode(), text=text.decode(), score=float(score))


def _byte_strings(raw: bytes) -> list[bytes]:
    """Elements of a `BYTES` tensor: a length of four bytes, little-endian, before each."""
    found, place = [], 0
    while place < len(raw):
        begin = place + 4
        place = begin + int.from_bytes(raw[place:begin], "little")
        found.append(raw[begin:place])
    return found
