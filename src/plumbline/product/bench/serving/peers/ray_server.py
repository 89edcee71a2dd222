"""Both models behind Ray Serve: one proxy, one replica for each model."""

from __future__ import annotations

import signal
import threading
from typing import Any

import numpy as np
import ray
from ray import serve
from starlette.requests import Request

from plumbline.product.bench.serving.peers.work import address, open_work


@serve.deployment(num_replicas=1, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0.5})
class Echo:
    """`{"input": [[16 numbers]]}` to `{"output": [[16 numbers]]}`."""

    async def __call__(self, request: Request) -> dict[str, Any]:
        """The null model."""
        body = await request.json()
        return {"output": np.asarray(body["input"], np.float32).copy().tolist()}


@serve.deployment(num_replicas=1, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0.5})
class Embed:
    """`{"input": ["text"]}` to `{"output": [[384 numbers]]}`."""

    def __init__(self) -> None:
        self._work = open_work()

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Vectors of texts."""
        body = await request.json()
        return {"output": self._work.embed(body["input"]).tolist()}


def main() -> None:
    """Serve until told to stop."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: ended.set())
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=128 << 20)
    serve.start(
        http_options={"host": "127.0.0.1", "port": address()},
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
    echo: Any = Echo
    embed: Any = Embed
    serve.run(echo.bind(), name="echo", route_prefix="/echo")
    serve.run(embed.bind(), name="minilm", route_prefix="/minilm")
    ended.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
