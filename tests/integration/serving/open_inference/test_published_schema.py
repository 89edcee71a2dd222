"""What the OpenAPI document promises is what the gateway answers (L4-25, L4-29)."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from plumbline.serving.gateway.application import build_application
from plumbline.serving.gateway.server import ServerKind
from plumbline.testing.gateways import ask, fake_gateway, running_gateway


def document():
    """The document, its placeholders narrowed to the model that there is, so that answers are not all 404."""
    found = build_application(fake_gateway()).openapi
    for operations in found["paths"].values():
        for operation in operations.values():
            for parameter in operation["parameters"]:
                known = "echo" if parameter["name"] == "model" else "1"
                parameter["schema"] = {"type": "string", "enum": [known]}
    return found


def test_every_route_is_published_but_those_that_refuse_an_extension():
    application = build_application(fake_gateway(metrics=lambda: (b"", "text/plain")))
    published = ask(application, "GET", "/openapi.json").json()
    for path, operations in published["paths"].items():
        concrete = path.replace("{model}", "echo").replace("{version}", "1")
        for method in operations:
            assert ask(application, method.upper(), concrete).status not in (404, 405), path
    assert "/v2/models/{model}/versions/{version}/infer" in published["paths"]
    assert not any("sharedmemory" in path for path in published["paths"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(ServerKind))
def test_schemathesis_finds_no_server_error_and_no_broken_promise(kind, tmp_path):
    """Left out is only the check that whatever fits the schema is accepted: that sizes, shapes and data fit
    together is beyond a schema.
    """
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("schemathesis is not installed")
    with running_gateway(fake_gateway(openapi=document), kind) as gateway:
        examples = "20" if kind is ServerKind.GRANIAN else "5"
        command = [program, "run", f"{gateway.url}/openapi.json", "--max-examples", examples, "--no-color"]
        command += ["--exclude-checks", "positive_data_acceptance", "--seed", "7"]
        found = subprocess.run(
            command, capture_output=True, text=True, timeout=150, check=False, cwd=tmp_path
        )
    assert found.returncode == 0, found.stdout[-4000:]
