"""Clients that people already have work unmodified, each in its own environment (issue 3, section 6)."""

import json
import subprocess
from pathlib import Path

import pytest

from plumbline.testing.gateways import fake_gateway, running_gateway

CHECKOUT = Path(__file__).resolve().parents[3]


def session(client):
    python = CHECKOUT / ".venv-clients" / client / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no environment of {client}: .venv-clients/{client} is absent")
    script = Path(__file__).with_name(f"{client}_session.py")
    with running_gateway(fake_gateway(), with_grpc=True) as gateway:
        command = [str(python), str(script), gateway.host, str(gateway.port), str(gateway.grpc_port)]
        found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    return json.loads(found.stdout)


@pytest.mark.slow
def test_tritonclient_works_over_rest_and_grpc():
    found = session("tritonclient")
    rest, grpc = found["rest"], found["grpc"]
    for name in ("live", "ready", "model_ready", "binary", "terms", "reloaded"):
        assert rest[name] is True, name
        assert grpc[name] is True, name
    for name in ("json", "version", "asynchronous", "gzip", "deflate"):
        assert rest[name] is True, name
    assert rest["unknown_ready"] is False
    assert rest["classes"] == ["0.285714:2", "0.142857:1"]
    assert rest["error"] == ["404", "there is no model 'nobody'"]
    assert rest["sequence"][0] == rest["shared_memory"][0] == "400"
    assert grpc["stream"] == [True, True, True]
    assert grpc["error"][0] == "StatusCode.NOT_FOUND"
    assert grpc["sequence"][0] == grpc["shared_memory"][0] == "StatusCode.UNIMPLEMENTED"


@pytest.mark.slow
def test_the_client_of_kserve_works_over_rest_and_grpc():
    found = session("kserve")
    for family in ("rest", "grpc"):
        for name in ("live", "ready", "model_ready", "json", "binary"):
            assert found[family][name] is True, (family, name)
    assert found["rest"]["error"] == "HTTPStatusError"


STUBS = """
import importlib.util, sys
import google.protobuf
from tritonclient.grpc import service_pb2
spec = importlib.util.spec_from_file_location("open_inference_pb2", sys.argv[1])
ours = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ours)
message = ours.ModelInferRequest(model_name="m")
message.parameters["priority"].uint64_param = 3
theirs = service_pb2.ModelInferRequest.FromString(message.SerializeToString())
assert theirs.parameters["priority"].uint64_param == 3
sys.stdout.write(google.protobuf.__version__)
"""


@pytest.mark.slow
def test_the_messages_run_with_an_older_protobuf_beside_those_of_a_client():
    python = CHECKOUT / ".venv-clients" / "tritonclient" / "bin" / "python"
    if not python.exists():
        pytest.skip("no environment of tritonclient: .venv-clients/tritonclient is absent")
    stubs = CHECKOUT / "src" / "plumbline" / "serving" / "grpc" / "open_inference_pb2.py"
    command = [str(python), "-c", STUBS, str(stubs)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    assert int(found.stdout.split(".")[0]) < 7
