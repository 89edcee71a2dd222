"""Bodies of `/infer`: what is read, and what is refused by name (L4-27, X-27, X-56)."""

import json
import struct

import numpy as np
import pytest

from plumbline.serving.gateway.application import build_application
from plumbline.serving.open_inference.scheduling_parameters import priority_of
from plumbline.testing.gateways import FakeInference, ask, fake_gateway

PATH = "/v2/models/echo/infer"


def infer(document, binary=b"", inference=None, **headers):
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    if binary:
        named.append(("inference-header-content-length", str(len(text))))
    parts = fake_gateway(inference=inference or FakeInference())
    return ask(build_application(parts), "POST", PATH, headers=named, body=text + binary)


def tensor(datatype, shape, **more):
    return {"name": datatype, "datatype": datatype, "shape": shape, **more}


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("BOOL", [True, False]),
        ("UINT8", [0, 255]),
        ("UINT16", [0, 65535]),
        ("UINT32", [0, 2**32 - 1]),
        ("UINT64", [0, 2**64 - 1]),
        ("INT8", [-128, 127]),
        ("INT16", [-(2**15), 2**15 - 1]),
        ("INT32", [-(2**31), 2**31 - 1]),
        ("INT64", [-(2**63), 2**63 - 1]),
        ("FP16", [0.5, -2.0]),
        ("FP32", [0.5, -0.25]),
        ("FP64", [0.1, 1e308]),
        ("BYTES", ["text", "ä"]),
    ],
)
def test_json_values_of_every_datatype_come_back_as_they_were_sent(datatype, data):
    told = infer({"inputs": [tensor(datatype, [2], data=data)]})
    assert told.status == 200
    assert told.json()["outputs"] == [tensor(datatype, [2], data=data)]


@pytest.mark.parametrize("datatype", ["BOOL", "UINT16", "INT64", "FP16", "FP32", "FP64", "BF16", "UINT8"])
def test_binary_values_come_back_bit_for_bit(datatype):
    width = {"BOOL": 1, "UINT8": 1, "UINT16": 2, "FP16": 2, "BF16": 2, "FP32": 4, "INT64": 8, "FP64": 8}
    raw = bytes([1, 0] if datatype == "BOOL" else range(2 * width[datatype]))
    inputs = [tensor(datatype, [2], parameters={"binary_data_size": len(raw)})]
    told = infer({"inputs": inputs, "parameters": {"binary_data_output": True}}, raw)
    assert told.status == 200
    length = int(told.headers["inference-header-content-length"])
    assert told.body[length:] == raw
    (output,) = json.loads(told.body[:length])["outputs"]
    assert (output["datatype"], output["parameters"]) == (datatype, {"binary_data_size": len(raw)})


def test_byte_strings_with_any_bytes_travel_as_binary_data():
    raw = b"".join(struct.pack("<I", len(text)) + text for text in (b"\xff\x00", b"", b"abc"))
    inputs = [tensor("BYTES", [3], parameters={"binary_data_size": len(raw)})]
    told = infer({"inputs": inputs, "parameters": {"binary_data_output": True}}, raw)
    assert told.body.endswith(raw)


def test_nested_and_flat_data_are_the_same_tensor():
    inference = FakeInference()
    for data in ([[1, 2, 3], [4, 5, 6]], [1, 2, 3, 4, 5, 6]):
        assert infer({"inputs": [tensor("INT32", [2, 3], data=data)]}, inference=inference).status == 200
    first, second = (call.inputs["INT32"] for call in inference.calls)
    assert first.tolist() == second.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_an_unaligned_binary_tensor_becomes_an_aligned_array():
    inference = FakeInference()
    raw = struct.pack("<2d", 1.5, -2.5)
    for pad in range(8):
        text = json.dumps({"inputs": [tensor("FP64", [2], parameters={"binary_data_size": 16})]}).encode()
        assert infer(text + b" " * pad, raw, inference=inference).status == 200
    assert all(call.inputs["FP64"].flags.aligned for call in inference.calls)
    assert all(call.inputs["FP64"].tolist() == [1.5, -2.5] for call in inference.calls)


def test_only_wanted_outputs_are_returned_each_in_its_own_form():
    inputs = [tensor("FP32", [1], data=[1]), tensor("INT8", [1], data=[2]), tensor("BOOL", [1], data=[True])]
    outputs = [{"name": "INT8", "parameters": {"binary_data": True}}, {"name": "FP32"}]
    told = infer({"inputs": inputs, "outputs": outputs, "id": "mine"})
    length = int(told.headers["inference-header-content-length"])
    document = json.loads(told.body[:length])
    assert document["id"] == "mine"
    assert {output["name"] for output in document["outputs"]} == {"INT8", "FP32"}
    assert told.body[length:] == b"\x02"


def test_classification_gives_the_largest_values_with_their_indices():
    inputs = [tensor("FP32", [2, 3], data=[0.1, 0.7, 0.2, 3, 1, 2])]
    told = infer({"inputs": inputs, "outputs": [{"name": "FP32", "parameters": {"classification": 2}}]})
    (output,) = told.json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    assert [text.split(":")[1] for text in output["data"]] == ["1", "2", "0", "2"]


def test_terms_of_the_schedule_policy_reach_the_call():
    inference = FakeInference()
    parameters = {"priority": 2, "timeout": 5000, "plumbline_deadline_us": 9000, "own": "x"}
    assert infer({"inputs": [], "parameters": parameters}, inference=inference).status == 200
    (call,) = inference.calls
    assert call.priority == 8
    assert call.start_by_ns - call.arrived_ns == 5_000_000
    assert call.deadline_ns - call.arrived_ns == 9_000_000
    assert call.parameters == {"own": "x"}


def test_the_protocols_highest_priority_is_ours():
    assert [priority_of(p) for p in (0, 1, 5, 10, 11, 2**32)] == [5, 9, 5, 0, 0, 0]


def test_an_output_that_json_cannot_hold_is_refused_and_binary_data_is_named():
    inference = FakeInference()
    inference.outputs = {"FP32": np.array([1, np.nan], np.float32)}
    told = infer({"inputs": []}, inference=inference)
    assert (told.status, told.json()["class"]) == (406, "decoding")
    assert "binary_data" in told.json()["error"]
    assert (
        infer({"inputs": [], "parameters": {"binary_data_output": True}}, inference=inference).status == 200
    )


SIZE = "binary_data_size"
REFUSED = {
    "not json": (b"{", b"", 400, "validation.json"),
    "no inputs": ({}, b"", 400, "validation.json"),
    "inputs of another type": ({"inputs": {}}, b"", 400, "validation.json"),
    "not utf-8": (b'{"id":"\xff","inputs":[]}', b"", 400, "validation.json"),
    "NaN": (b'{"inputs":[{"name":"a","datatype":"FP32","shape":[1],"data":[NaN]}]}', b"", 400, "validation."),
    "deep": (b'{"inputs":[],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"", 400, "validation.json"),
    "negative extent": ({"inputs": [tensor("FP32", [-1], data=[])]}, b"", 400, "validation.tensor"),
    "fraction of an extent": ({"inputs": [tensor("FP32", [1.5], data=[1])]}, b"", 400, "validation.json"),
    "huge shape": ({"inputs": [tensor("FP32", [2**30, 2**30], data=[])]}, b"", 400, "too_large"),
    "huge extent": ({"inputs": [tensor("FP32", [2**60], data=[])]}, b"", 400, "validation.tensor"),
    "huge rank": ({"inputs": [tensor("FP32", [1] * 99, data=[1])]}, b"", 400, "too_large"),
    "zero times huge": ({"inputs": [tensor("FP32", [0, 2**31], data=[])]}, b"", 400, "validation.tensor"),
    "unknown datatype": ({"inputs": [tensor("FP8", [1], data=[1])]}, b"", 400, "validation.tensor"),
    "no data": ({"inputs": [tensor("FP32", [1])]}, b"", 400, "validation.tensor"),
    "too few": ({"inputs": [tensor("FP32", [3], data=[1, 2])]}, b"", 400, "validation.tensor"),
    "ragged": ({"inputs": [tensor("FP32", [2, 2], data=[[1, 2], [3]])]}, b"", 400, "validation.tensor"),
    "other nesting": ({"inputs": [tensor("FP32", [2, 2], data=[[1, 2, 3, 4]])]}, b"", 400, "validation."),
    "half nested": ({"inputs": [tensor("FP32", [1, 1, 2], data=[[1, 2]])]}, b"", 400, "validation.tensor"),
    "text as number": ({"inputs": [tensor("FP32", [1], data=["1"])]}, b"", 400, "validation.tensor"),
    "out of range": ({"inputs": [tensor("INT8", [1], data=[128])]}, b"", 400, "validation.tensor"),
    "beyond float": ({"inputs": [tensor("FP16", [1], data=[70000])]}, b"", 400, "validation.tensor"),
    "bfloat as json": ({"inputs": [tensor("BF16", [1], data=[1])]}, b"", 400, "validation.tensor"),
    "twice": ({"inputs": [tensor("FP32", [1], data=[1])] * 2}, b"", 400, "validation.tensor"),
    "wanted twice": ({"inputs": [], "outputs": [{"name": "a"}] * 2}, b"", 400, "validation.tensor"),
    "short binary": ({"inputs": [tensor("FP32", [2], parameters={SIZE: 8})]}, b"1234", 400, "validation."),
    "long binary": ({"inputs": [tensor("FP32", [1], parameters={SIZE: 4})]}, b"12345", 400, "validation."),
    "lying size": ({"inputs": [tensor("FP32", [2], parameters={SIZE: 4})]}, b"1234", 400, "validation."),
    "negative size": ({"inputs": [tensor("FP32", [1], parameters={SIZE: -4})]}, b"1234", 400, "validation."),
    "two forms": ({"inputs": [tensor("FP32", [1], data=[1], parameters={SIZE: 4})]}, b"1234", 400, "valid"),
    "bool of 2": ({"inputs": [tensor("BOOL", [1], parameters={SIZE: 1})]}, b"\x02", 400, "validation.tensor"),
    "bytes beyond": ({"inputs": [tensor("BYTES", [1], parameters={SIZE: 5})]}, b"\x09\0\0\0a", 400, "valid"),
    "bytes count": ({"inputs": [tensor("BYTES", [9], parameters={SIZE: 5})]}, b"\x01\0\0\0a", 400, "valid"),
    "shared memory": (
        {"inputs": [tensor("FP32", [1], parameters={"shared_memory_region": "r"})]},
        *(b"", 400, "validation.extension_unsupported"),
    ),
    "sequence": ({"inputs": [], "parameters": {"sequence_id": 3}}, b"", 400, "extension_unsupported"),
    "priority": ({"inputs": [], "parameters": {"priority": "high"}}, b"", 400, "inference_parameter"),
    "timeout": ({"inputs": [], "parameters": {"timeout": -1}}, b"", 400, "inference_parameter"),
    "reserved": ({"inputs": [], "parameters": {"triton_x": 1}}, b"", 400, "inference_parameter"),
    "nested parameter": ({"inputs": [], "parameters": {"x": {}}}, b"", 400, "validation.json"),
    "many": ({"inputs": [tensor("FP32", [1], data=[1])] * 300}, b"", 400, "validation.inference_request"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_body_is_refused_by_name(name):
    document, binary, status, code = REFUSED[name]
    told = infer(document, binary)
    problem = told.json()
    assert (told.status, told.headers["content-type"]) == (status, "application/problem+json")
    assert code in problem["code"]
    assert problem["error"] == problem["detail"]


def test_bfloat_and_unsigned_integers_of_sixteen_bits_are_not_mistaken_for_each_other():
    for name, datatype in (("BF16", "UINT16"), ("UINT16", "BF16")):
        wrong = {"name": name, "datatype": datatype, "shape": [1], "parameters": {SIZE: 2}}
        told = infer({"inputs": [wrong]}, b"ab")
        assert (told.status, told.json()["code"]) == (400, "validation.tensor")


@pytest.mark.parametrize("length", ["-1", "x", "999999", "1e3", "9" * 40])
def test_a_header_length_outside_the_body_is_refused(length):
    assert infer({"inputs": []}, inference_header_content_length=length).status == 400


def test_a_version_that_is_named_is_asked_for():
    inference = FakeInference()
    application = build_application(fake_gateway(inference=inference))
    body = b'{"inputs":[]}'
    assert ask(application, "POST", "/v2/models/echo/versions/1/infer", body=body).status == 200
    assert ask(application, "POST", "/v2/models/echo/versions/7/infer", body=body).status == 404
    assert [call.version for call in inference.calls] == ["1", "7"]
