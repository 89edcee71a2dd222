"""Both models behind KServe's model server: one worker, Open Inference Protocol over REST."""

from __future__ import annotations

from typing import Any

import kserve
import numpy as np
from kserve import InferOutput, InferRequest, InferResponse

from plumbline.product.bench.serving.peers.work import Work, address, open_work


class Echo(kserve.Model):
    """float32 `[1, 16]` to the same numbers."""

    def __init__(self, work: Work) -> None:
        super().__init__("echo")
        self._work = work
        self.ready = True

    async def predict(self, payload: InferRequest, headers: Any = None, **kwargs: Any) -> InferResponse:
        """The null model."""
        return _answer(self.name, payload, "y", self._work.echo(payload.inputs[0].as_numpy()))


class Embed(kserve.Model):
    """BYTES `[n]` to float32 `[n, 384]`."""

    def __init__(self, work: Work) -> None:
        super().__init__("minilm")
        self._work = work
        self.ready = True

    def predict(self, payload: InferRequest, headers: Any = None, **kwargs: Any) -> InferResponse:
        """Vectors of texts."""
        texts = [text.decode() if isinstance(text, bytes) else text for text in payload.inputs[0].data]
        return _answer(self.name, payload, "embedding", self._work.embed(texts))


def _answer(model: str, request: InferRequest, name: str, array: np.ndarray) -> InferResponse:
    output = InferOutput(name=name, shape=list(array.shape), datatype="FP32")
    output.set_data_from_numpy(array, binary_data=False)
    return InferResponse(response_id=request.id or "", model_name=model, infer_outputs=[output])


def main() -> None:
    """Serve until told to stop."""
    work = open_work()
    kserve.logging.configure_logging()
    server = kserve.ModelServer(
        http_port=address(), workers=1, enable_grpc=False, enable_latency_logging=False
    )
    server.start([Echo(work), Embed(work)])


if __name__ == "__main__":
    main()
