"""What an unmodified KServe client sees. Its own Python runs this: HOST PORT GRPC_PORT; prints JSON."""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

HOST, PORT, GRPC_PORT = sys.argv[1:4]
ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3) / 7


def request(binary):
    tensor = InferInput("FP32", list(ARRAY.shape), "FP32")
    tensor.set_data_from_numpy(ARRAY, binary_data=binary)
    return InferRequest(model_name="echo", infer_inputs=[tensor], request_id="r")


async def rest():
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0, timeout=10))
    url = f"http://{HOST}:{PORT}"
    found = {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model_ready": await client.is_model_ready(url, "echo"),
    }
    for name, binary in (("json", False), ("binary", True)):
        answer = await client.infer(url, request(binary), model_name="echo")
        found[name] = np.array_equal(answer.outputs[0].as_numpy(), ARRAY) and answer.id == "r"
    try:
        await client.infer(url, request(False), model_name="nobody")
    except Exception as error:  # noqa: BLE001 (whatever the client raises)
        found["error"] = type(error).__name__
    await client.close()
    return found


async def grpc():
    async with InferenceGRPCClient(f"{HOST}:{GRPC_PORT}", timeout=10) as client:
        found = {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model_ready": await client.is_model_ready("echo"),
        }
        for name, binary in (("json", False), ("binary", True)):
            answer = await client.infer(request(binary))
            found[name] = np.array_equal(answer.outputs[0].as_numpy(), ARRAY) and answer.id == "r"
    return found


async def main():
    sys.stdout.write(json.dumps({"rest": await rest(), "grpc": await grpc()}))


asyncio.run(main())
