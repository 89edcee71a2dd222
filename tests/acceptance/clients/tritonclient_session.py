"""What an unmodified tritonclient sees. Its own Python runs this: HOST PORT GRPC_PORT; prints JSON."""

import json
import sys

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

HOST, PORT, GRPC_PORT = sys.argv[1:4]


def tensors(kind, **how):
    arrays = {
        "FP32": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
        "FP16": np.arange(4, dtype=np.float16),
        "INT64": np.array([-(2**63), 2**63 - 1]),
        "UINT8": np.array([0, 255], np.uint8),
        "BOOL": np.array([True, False]),
        "BYTES": np.array([b"plumb", b"\xc3\xa4 line", b""], dtype=object),
    }
    inputs = []
    for name, array in arrays.items():
        tensor = kind.InferInput(name, list(array.shape), name)
        tensor.set_data_from_numpy(array, **how)
        inputs.append(tensor)
    return arrays, inputs


def same(arrays, result):
    return all(np.array_equal(result.as_numpy(name), array) for name, array in arrays.items())


def same_texts(arrays, result):
    """Values of a JSON answer: texts come as str."""
    numbers = {name: array for name, array in arrays.items() if name != "BYTES"}
    texts = [value.decode() for value in arrays["BYTES"].tolist()]
    return same(numbers, result) and list(result.as_numpy("BYTES")) == texts


def error_of(call):
    try:
        call()
    except InferenceServerException as error:
        return [str(error.status()), str(error.message())]
    return None


def rest():
    with triton_http.InferenceServerClient(f"{HOST}:{PORT}") as client:
        arrays, binary = tensors(triton_http, binary_data=True)
        _, texts = tensors(triton_http, binary_data=False)
        as_json = [triton_http.InferRequestedOutput(name, binary_data=False) for name in arrays]
        top = [triton_http.InferRequestedOutput("FP32", class_count=2)]
        found = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready("echo"),
            "unknown_ready": client.is_model_ready("nobody"),
            "server": client.get_server_metadata()["name"],
            "model": client.get_model_metadata("echo")["name"],
            "config": client.get_model_config("echo")["max_batch_size"],
            "index": client.get_model_repository_index()[0]["state"],
            "statistics": client.get_inference_statistics("echo")["model_stats"][0]["inference_count"],
            "trace": client.get_trace_settings()["trace_level"],
            "binary": same(arrays, client.infer("echo", binary)),
            "json": same_texts(arrays, client.infer("echo", texts, outputs=as_json)),
            "version": same(arrays, client.infer("echo", binary, model_version="1")),
            "terms": same(
                arrays, client.infer("echo", binary, priority=1, timeout=5_000_000, request_id="r")
            ),
            "asynchronous": same(arrays, client.async_infer("echo", binary).get_result()),
            "classes": [
                text.decode() for text in client.infer("echo", binary, outputs=top).as_numpy("FP32")[0]
            ],
            "error": error_of(lambda: client.infer("nobody", binary)),
            "sequence": error_of(lambda: client.infer("echo", binary, sequence_id=7)),
            "shared_memory": error_of(client.get_system_shared_memory_status),
        }
        large = np.zeros((64, 64), np.float32)
        tensor = triton_http.InferInput("FP32", [64, 64], "FP32")
        tensor.set_data_from_numpy(large)
        for algorithm in ("gzip", "deflate"):
            answer = client.infer(
                "echo",
                [tensor],
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            )
            found[algorithm] = np.array_equal(answer.as_numpy("FP32"), large)
        client.unload_model("echo")
        client.load_model("echo")
        found["reloaded"] = client.is_model_ready("echo")
    return found


def grpc():
    with triton_grpc.InferenceServerClient(f"{HOST}:{GRPC_PORT}") as client:
        arrays, inputs = tensors(triton_grpc)
        answers = []
        client.start_stream(
            callback=lambda result, error: answers.append(error is None and same(arrays, result))
        )
        for _ in range(3):
            client.async_stream_infer("echo", inputs)
        client.stop_stream()
        found = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready("echo"),
            "server": client.get_server_metadata().name,
            "model": client.get_model_metadata("echo").name,
            "config": client.get_model_config("echo").config.max_batch_size,
            "index": client.get_model_repository_index().models[0].state,
            "statistics": client.get_inference_statistics("echo").model_stats[0].inference_count,
            "trace": list(client.get_trace_settings().settings["trace_level"].value),
            "binary": same(arrays, client.infer("echo", inputs)),
            "terms": same(
                arrays, client.infer("echo", inputs, priority=1, timeout=5_000_000, client_timeout=5)
            ),
            "gzip": same(arrays, client.infer("echo", inputs, compression_algorithm="gzip")),
            "stream": answers,
            "error": error_of(lambda: client.infer("nobody", inputs)),
            "sequence": error_of(lambda: client.infer("echo", inputs, sequence_id=7)),
            "shared_memory": error_of(client.get_system_shared_memory_status),
        }
        client.unload_model("echo")
        client.load_model("echo")
        found["reloaded"] = client.is_model_ready("echo")
    return found


sys.stdout.write(json.dumps({"rest": rest(), "grpc": grpc()}))
