"""Both models behind LitServe: one server, one worker for each model.

No deferred annotations here: the server reads those of `decode_request` as they are.
"""

from typing import Any

import litserve
import numpy as np

from plumbline.product.bench.serving.peers.work import address, open_work


class Echo(litserve.LitAPI):
    """`{"input": [[16 numbers]]}` to `{"output": [[16 numbers]]}`."""

    def setup(self, device: str) -> None:
        """Nothing to load."""

    def decode_request(self, request: dict[str, Any], **kwargs: Any) -> np.ndarray:
        """Numbers as an array."""
        return np.asarray(request["input"], np.float32)

    def predict(self, x: np.ndarray, **kwargs: Any) -> np.ndarray:
        """The null model."""
        return x.copy()

    def encode_response(self, output: np.ndarray, **kwargs: Any) -> dict[str, Any]:
        """The array as numbers."""
        return {"output": output.tolist()}


class Embed(litserve.LitAPI):
    """`{"input": ["text"]}` to `{"output": [[384 numbers]]}`."""

    def setup(self, device: str) -> None:
        """Open the encoder."""
        self._work = open_work()

    def decode_request(self, request: dict[str, Any], **kwargs: Any) -> list[str]:
        """The texts."""
        return list(request["input"])

    def predict(self, x: list[str], **kwargs: Any) -> np.ndarray:
        """Their vectors."""
        return self._work.embed(x)

    def encode_response(self, output: np.ndarray, **kwargs: Any) -> dict[str, Any]:
        """The array as numbers."""
        return {"output": output.tolist()}


def main() -> None:
    """Serve until told to stop."""
    server = litserve.LitServer(
        [Echo(api_path="/echo"), Embed(api_path="/minilm")],
        accelerator="cpu",
        workers_per_device=1,
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=address(),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
