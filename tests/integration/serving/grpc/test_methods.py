"""The protocol over gRPC, through a real channel (issue 3, section 5)."""

import json
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2

from plumbline.errors import ArtifactError, PolicyError, Recoverability, ResourceError, ValidationError
from plumbline.scheduling.refusals import DuplicateRequest
from plumbline.serving.gateway.limits import GatewayLimits
from plumbline.serving.grpc import open_inference_pb2 as pb
from plumbline.testing.gateways import (
    FakeAuthenticator,
    FakeHealth,
    FakeInference,
    fake_gateway,
    running_gateway,
)

HANG_S = 60


class Client:
    def __init__(self, port):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def call(self, method, request, metadata=(), timeout=HANG_S):
        response = getattr(pb, f"{method}Response")
        stub = self.channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        answer, call = stub.with_call(request, metadata=metadata, timeout=timeout)
        return answer, dict(call.trailing_metadata())

    def refused(self, method, request, **how):
        with pytest.raises(grpc.RpcError) as caught:
            self.call(method, request, **how)
        return caught.value.code(), dict(caught.value.trailing_metadata()), caught.value.details()


@pytest.fixture
def opened():
    stack = []

    def open_client(**parts):
        manager = running_gateway(fake_gateway(**parts), with_grpc=True)
        gateway = manager.__enter__()
        client = Client(gateway.grpc_port)
        stack.append((manager, client))
        return client, gateway

    yield open_client
    for manager, client in stack:
        client.channel.close()
        manager.__exit__(None, None, None)


def request(**more):
    message = pb.ModelInferRequest(model_name="echo", id="mine", **more)
    message.inputs.add(name="FP32", datatype="FP32", shape=[2]).contents.fp32_contents.extend([1, 2])
    return message


def test_typed_and_raw_contents_come_back_raw(opened):
    client, _ = opened()
    answer, metadata = client.call("ModelInfer", request(), metadata=[("x-request-id", "r1")])
    assert answer.raw_output_contents[0] == b"\0\0\x80?\0\0\0@"
    assert (answer.id, answer.outputs[0].datatype, metadata["x-request-id"]) == ("mine", "FP32", "r1")
    raw = pb.ModelInferRequest(model_name="echo", raw_input_contents=[b"\x01\x02"])
    raw.inputs.add(name="BF16", datatype="BF16", shape=[1])
    answer, _ = client.call("ModelInfer", raw)
    assert (answer.outputs[0].datatype, answer.raw_output_contents[0]) == ("BF16", b"\x01\x02")


def wrong_requests():
    def made(change):
        message = request()
        change(message)
        return message

    return {
        "few raw": made(lambda m: m.raw_input_contents.extend([b"", b""])),
        "both": made(lambda m: m.raw_input_contents.append(b"12345678")),
        "count": made(lambda m: m.inputs[0].shape.append(3)),
        "negative": made(lambda m: m.inputs[0].shape.__setitem__(0, -1)),
        "datatype": made(lambda m: setattr(m.inputs[0], "datatype", "FP8")),
        "field": made(lambda m: setattr(m.inputs[0], "datatype", "INT8")),
        "twice": made(lambda m: m.inputs.append(m.inputs[0])),
        "priority": made(lambda m: setattr(m.parameters["priority"], "string_param", "x")),
        "empty parameter": made(lambda m: m.parameters["priority"]),
        "wanted twice": made(lambda m: [m.outputs.add(name="a") for _ in range(2)]),
        "id": made(lambda m: setattr(m, "id", "x" * 999)),
    }


@pytest.fixture(scope="module")
def shared():
    with running_gateway(fake_gateway(), with_grpc=True) as gateway:
        client = Client(gateway.grpc_port)
        yield client
        client.channel.close()


@pytest.mark.parametrize("name", wrong_requests())
def test_a_wrong_request_is_an_invalid_argument_with_a_problem(shared, name):
    code, metadata, details = shared.refused("ModelInfer", wrong_requests()[name])
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    problem = json.loads(metadata["plumbline-problem-bin"])
    assert problem["code"] == metadata["plumbline-code"]
    assert (problem["class"], problem["detail"]) == ("validation", details)
    assert problem["request_id"] == metadata["x-request-id"]


def test_extensions_that_are_not_offered_are_unimplemented(shared):
    message = request()
    message.parameters["sequence_id"].int64_param = 4
    assert shared.refused("ModelInfer", message)[0] is grpc.StatusCode.UNIMPLEMENTED
    shared_memory = request()
    shared_memory.inputs[0].parameters["shared_memory_region"].string_param = "r"
    assert shared.refused("ModelInfer", shared_memory)[0] is grpc.StatusCode.UNIMPLEMENTED
    code, _, _ = shared.refused("CudaSharedMemoryStatus", pb.CudaSharedMemoryStatusRequest())
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert shared.refused("LogSettings", pb.LogSettingsRequest())[0] is grpc.StatusCode.UNIMPLEMENTED


class Busy(ResourceError):
    recoverability = Recoverability.TRANSIENT
    retry_after_s = 0.75


class NotServing(ValidationError):
    http_status = 409


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ArtifactError(), grpc.StatusCode.FAILED_PRECONDITION),
        (NotServing(), grpc.StatusCode.FAILED_PRECONDITION),
        (DuplicateRequest(request_id="r", state="queued"), grpc.StatusCode.ALREADY_EXISTS),
        (PolicyError(), grpc.StatusCode.PERMISSION_DENIED),
        (ResourceError(), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (Busy(), grpc.StatusCode.UNAVAILABLE),
        (KeyError("secret"), grpc.StatusCode.INTERNAL),
    ],
)
def test_the_class_of_an_error_picks_the_status(opened, error, code):
    inference = FakeInference()
    inference.error = error
    client, _ = opened(inference=inference)
    found, metadata, details = client.refused("ModelInfer", request())
    assert found is code
    assert "secret" not in details
    assert metadata.get("grpc-retry-pushback-ms") == ("750" if isinstance(error, Busy) else None)


GARBAGE = [b"\xff\xff\xff\xff", b"\x0a\x02\xff\xfe"]


@pytest.mark.parametrize("message", GARBAGE, ids=["damaged", "no-utf8"])
def test_bytes_that_are_no_message_are_refused_with_a_problem(shared, message):
    ask = shared.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    with pytest.raises(grpc.RpcError) as caught:
        ask(message, timeout=HANG_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(caught.value.trailing_metadata())["plumbline-code"] == "validation.grpc_message"
    stream = shared.channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        response_deserializer=pb.ModelStreamInferResponse.FromString,
    )
    answers = list(stream(iter([message, request().SerializeToString()]), timeout=HANG_S))
    assert "validation.grpc_message" in answers[0].error_message
    assert answers[1].infer_response.id == "mine"


def test_a_path_in_a_message_does_not_leave(opened):
    inference = FakeInference()
    inference.error = DuplicateRequest(request_id="r", state="at /srv/secret/place")
    client, _ = opened(inference=inference)
    assert "/srv" not in client.refused("ModelInfer", request())[2]


def test_the_deadline_of_the_call_becomes_that_of_the_request_and_its_end_cancels(opened):
    inference = FakeInference()
    inference.hold = True
    client, _ = opened(inference=inference)
    client.call("ServerLive", pb.ServerLiveRequest())
    for timeout_s in (0.4, 2.0, 10.0):  # the first may be over before a slow machine has the call
        began_ns = time.monotonic_ns()
        code, _, _ = client.refused("ModelInfer", request(), timeout=timeout_s)
        ended_ns = time.monotonic_ns()
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        if inference.calls:
            break
    call = inference.calls[-1]
    assert began_ns < call.arrived_ns < call.deadline_ns <= ended_ns + timeout_s * 1e9
    until = time.monotonic() + HANG_S
    while not inference.cancelled and time.monotonic() < until:
        time.sleep(0.02)
    assert inference.cancelled[-1] == call.id


def test_keys_are_read_from_the_metadata(opened):
    client, _ = opened(authenticator=FakeAuthenticator())
    assert client.refused("ModelInfer", request())[0] is grpc.StatusCode.UNAUTHENTICATED
    key = [("authorization", "Bearer client-key")]
    client.call("ModelInfer", request(), metadata=key)
    unload = pb.RepositoryModelUnloadRequest(model_name="echo")
    code, _, _ = client.refused("RepositoryModelUnload", unload, metadata=key)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert client.call("ServerLive", pb.ServerLiveRequest())[0].live


def test_a_stream_answers_every_request_in_order_and_survives_errors(shared):
    wrong = pb.ModelInferRequest(model_name="nobody", id="wrong")
    stream = shared.channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=pb.ModelStreamInferResponse.FromString,
    )
    answers = list(stream(iter([request(), wrong, request()]), timeout=HANG_S))
    assert [answer.infer_response.id for answer in answers] == ["mine", "wrong", "mine"]
    assert ["validation.testing_model_unknown" in answer.error_message for answer in answers] == [
        False,
        True,
        False,
    ]


def test_messages_are_bounded(opened):
    client, _ = opened(limits=GatewayLimits(max_body_bytes=1000))
    message = pb.ModelInferRequest(model_name="echo", raw_input_contents=[b"x" * 5000])
    assert client.refused("ModelInfer", message)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_health_follows_readiness(opened):
    health = FakeHealth()
    client, _ = opened(health=health)
    check = client.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    assert check(health_pb2.HealthCheckRequest(), timeout=HANG_S).status == 1
    health.ready = False
    assert check(health_pb2.HealthCheckRequest(), timeout=HANG_S).status == 2
    assert not client.call("ServerReady", pb.ServerReadyRequest())[0].ready
