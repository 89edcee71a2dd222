"""The native API over fakes: what each route answers, and that every error is one problem document."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest
from fastapi import APIRouter

from plumbline.contracts.identity import LOCAL_PRINCIPAL, Role
from plumbline.serving.api.application import V1, ApiVersion, native_application
from plumbline.serving.api.caller import Reader
from plumbline.serving.api.openapi import route_permissions
from plumbline.serving.api.reference_page import reference_page
from plumbline.serving.identity.roles import ROLE_PERMISSIONS

Serve = Callable[..., None]

BODY = {"model": "double", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}
XSS = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


async def finished(native: Any, task: str, **headers: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            document = (await native.client.get(f"/api/v1/tasks/{task}", headers=headers)).json()
            if document["status"] not in {"accepted", "queued", "running"}:
                return dict(document)
            await asyncio.sleep(0.01)


def test_a_task_is_submitted_read_listed_and_cancelled(serve: Serve) -> None:
    """L4-34."""

    async def test(native: Any) -> None:
        answer = await native.client.post("/api/v1/tasks", json=BODY)
        assert answer.status_code == 202
        assert answer.headers["location"] == f"/api/v1/tasks/{answer.json()['id']}"
        done = await finished(native, answer.json()["id"])
        assert done["result"]["outputs"][0]["data"] == [2.0]
        page = (await native.client.get("/api/v1/tasks?state=succeeded&limit=1")).json()
        assert [t["id"] for t in page["tasks"]] == [done["id"]]
        again = await native.client.delete(f"/api/v1/tasks/{done['id']}")
        assert (again.status_code, again.json()["status"]) == (200, "succeeded")

    serve(test)


def test_a_put_creates_once_and_answers_again_and_refuses_another_body(serve: Serve) -> None:
    """L4-34."""

    async def test(native: Any) -> None:
        first = await native.client.put("/api/v1/tasks/mine", json=BODY)
        again = await native.client.put("/api/v1/tasks/mine", json=BODY)
        other = await native.client.put("/api/v1/tasks/mine", json={**BODY, "priority": 1})
        assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
        assert other.json()["code"] == "policy.task_conflict"

    serve(test)


def test_a_name_with_markup_comes_back_verbatim_in_json_only(serve: Serve) -> None:
    """X-58: inert: the media type is JSON, never HTML."""

    async def test(native: Any) -> None:
        answer = await native.client.post("/api/v1/tasks", json={**BODY, "name": XSS})
        read = await native.client.get(f"/api/v1/tasks/{answer.json()['id']}")
        assert read.json()["name"] == XSS
        assert read.headers["content-type"] == "application/json"
        refused = await native.client.get(f"/api/v1/tasks?cursor={XSS}")
        assert refused.headers["content-type"] == "application/problem+json"

    serve(test)


BAD_REQUESTS: list[tuple[str, str, Any, int]] = [
    ("GET", "/api/v1/nothing", None, 404),
    ("PATCH", "/api/v1/tasks", None, 405),
    ("GET", "/api/v1/tasks/unknown", None, 404),
    ("DELETE", "/api/v1/tasks/unknown", None, 404),
    ("GET", "/api/v1/tasks?limit=0", None, 400),
    ("GET", "/api/v1/tasks?state=happy", None, 400),
    ("GET", "/api/v1/tasks?cursor=zzz", None, 400),
    ("POST", "/api/v1/tasks", b"{", 400),
    ("POST", "/api/v1/tasks", b"", 400),
    ("POST", "/api/v1/tasks", b"\xff\xfe", 400),
    ("POST", "/api/v1/tasks", b"[" * 5000, 400),
    ("POST", "/api/v1/tasks", b'{"model":"double","text":"\\ud800"}', 400),
    ("POST", "/api/v1/tasks", b'{"model":"double","\\ud800":1}', 400),
    ("POST", "/api/v1/tasks", b'{"model":"double","timeout_s":NaN,"text":"a"}', 400),
    ("POST", "/api/v1/tasks", b'{"model":"double","parameters":{"a":Infinity},"text":"a"}', 400),
    ("POST", "/api/v1/tasks", b'{"priority":' + b"9" * 5000 + b"}", 400),
    ("POST", "/api/v1/tasks", {**BODY, "model": "nobody"}, 404),
    ("POST", "/api/v1/tasks", {**BODY, "extra": 1}, 400),
    ("POST", "/api/v1/tasks", {**BODY, "priority": "5"}, 400),
    ("POST", "/api/v1/tasks", {**BODY, "device": "gpu7"}, 409),
    ("PUT", "/api/v1/tasks/has%20space", BODY, 400),
    ("GET", "/api/v1/devices/none", None, 404),
    ("POST", "/api/v1/devices/none/drain", None, 404),
    ("POST", "/api/v1/devices/none/resume", None, 404),
    ("POST", "/api/v1/devices/none/retire", None, 404),
    ("POST", "/api/v1/devices/cpu/resume", None, 409),
    ("POST", "/api/v1/devices/cpu/retire", None, 409),
    ("GET", "/api/v1/models/none", None, 404),
    ("GET", "/api/v1/models/double/versions/9", None, 404),
    ("POST", "/api/v1/models/none/load", {}, 404),
    ("PUT", "/api/v1/models/double/canary", {"version": "1", "share": 2}, 400),
    ("PUT", "/api/v1/models/double/canary", {"version": "1", "share": 0.5}, 404),
    ("GET", "/api/v1/requests/none/explain", None, 404),
    ("GET", "/api/v1/timeline?last=x", None, 400),
    ("DELETE", "/api/v1/keys/none", None, 404),
    ("POST", "/api/v1/keys", {"tenant": "../x", "roles": ["client"]}, 400),
    ("POST", "/api/v1/keys", {"tenant": "x", "roles": ["root"]}, 400),
    ("POST", "/api/v1/keys", {"tenant": "x", "roles": ["client"], "rate": "many"}, 400),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), BAD_REQUESTS, ids=lambda v: str(v)[:40])
def test_every_error_is_the_one_problem_document(
    serve: Serve, method: str, path: str, body: Any, status: int
) -> None:
    """L4-27, L4-39, X-56: 4xx, typed, with its media type; nothing of the process shows."""

    async def test(native: Any) -> None:
        content = body if isinstance(body, bytes) or body is None else json.dumps(body)
        headers = {"content-type": "application/json"}
        answer = await native.client.request(method, path, content=content, headers=headers)
        problem = answer.json()
        assert answer.status_code == status == problem["status"], problem
        assert answer.headers["content-type"] == "application/problem+json"
        schema = native.application.openapi()["components"]["schemas"]["Problem"]
        jsonschema_rs.validate(schema, problem)
        assert problem["code"].startswith(f"{problem['class']}.")
        if status == 405:
            assert answer.headers["allow"]

    serve(test)


def test_a_bug_in_a_service_is_one_problem_document_without_its_text(serve: Serve) -> None:
    class Broken:
        def devices(self) -> Any:
            raise RuntimeError("secret at /srv/place")

    async def test(native: Any) -> None:
        answer = await native.client.get("/api/v1/devices")
        assert answer.status_code == 500
        assert answer.json()["class"] == "execution"
        assert "secret" not in answer.text

    serve(test, devices=Broken())


def test_devices_models_workers_info_and_explanations_are_read(serve: Serve) -> None:
    async def test(native: Any) -> None:
        get = native.client.get
        devices = (await get("/api/v1/devices")).json()["devices"]
        assert (await get("/api/v1/workers/w0/output")).json() == {"name": "w0", "output": "as w0 printed\n"}
        assert (await get("/api/v1/workers/w1/output")).status_code == 404
        assert devices[0]["memory"] == {"total_bytes": 1 << 30, "available_bytes": 1 << 29}
        assert (await get("/api/v1/devices/cpu")).json() == devices[0]
        drained = await native.client.post("/api/v1/devices/cpu/drain")
        assert drained.json()["status"] == "drained"
        models = (await get("/api/v1/models")).json()["models"]
        assert [m["name"] for m in models] == ["double", "reverse"]
        assert models[0]["versions"][0]["inputs"][0]["bounds"] == [8]
        assert "inputs" in models[0]["versions"][1]
        assert models[0]["versions"][1]["inputs"] is None, "nothing is known before it is ready"
        unloaded = await native.client.post("/api/v1/models/double/unload", json={})
        assert not unloaded.json()["ready"]
        loaded = await native.client.post("/api/v1/models/double/load", json={"version": "1"})
        assert loaded.json()["ready"]
        assert len((await get("/api/v1/models/double/versions")).json()) == 2
        assert (await get("/api/v1/workers")).json()["workers"][0]["name"] == "w0"
        assert (await get("/api/v1/requests/known/explain")).json()["answers"] == ["it was alone"]
        assert len((await get("/api/v1/timeline")).json()["launches"]) == 1
        info = (await get("/api/v1/info")).json()
        assert info["principal"]["id"] == "local"
        assert info["api_versions"] == [1]

    serve(test)


def test_a_device_is_drained_resumed_and_retired_through_the_api(serve: Serve) -> None:
    """L4-48: each step is one of the table; a retired device stays so until the server starts."""

    async def test(native: Any) -> None:
        async def step(verb: str, expected: int = 200) -> str:
            answer = await native.client.post(f"/api/v1/devices/cpu/{verb}")
            assert answer.status_code == expected, answer.text
            return str(answer.json().get("status"))

        assert await step("drain") == "drained"
        preferring = {**BODY, "device": "cpu"}
        refused = await native.client.post("/api/v1/tasks", json=preferring)
        assert refused.status_code == 409
        assert await step("resume") == "available"
        assert (await native.client.post("/api/v1/tasks", json=preferring)).status_code == 202
        await step("retire", 409)
        await step("resume", 409)
        assert await step("drain") in {"drained", "draining"}
        while (await native.client.get("/api/v1/devices/cpu")).json()["status"] == "draining":
            await asyncio.sleep(0.01)
        assert await step("retire") == "retired"
        await step("drain", 409)
        await step("resume", 409)
        assert (await native.client.get("/api/v1/devices/cpu")).json()["status"] == "retired"

    serve(test)


def test_without_a_key_nobody_is_let_in_and_with_one_its_tenant_is(serve: Serve) -> None:
    """X-60, X-63: keys through the API; a revoked one ends at once."""

    async def test(native: Any) -> None:
        for headers in ({}, {"x-api-key": "plk_x_y"}, {"authorization": "Basic eDp5"}):
            answer = await native.client.get("/api/v1/info", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "policy.api_key")
            assert answer.headers["www-authenticate"].startswith("Bearer")
        root = await native.ring.create(
            LOCAL_PRINCIPAL, tenant="local", roles=["admin"], rate=None, name="root"
        )
        admin = {"authorization": f"Bearer {root.text}"}
        made = await native.client.post(
            "/api/v1/keys", json={"tenant": "acme", "roles": ["client"], "name": "one"}, headers=admin
        )
        assert made.status_code == 201
        client = {"x-api-key": made.json()["key"]}
        task = await native.client.post("/api/v1/tasks", json=BODY, headers=client)
        assert (await finished(native, task.json()["id"], **client))["status"] == "succeeded"
        other = await native.client.get(f"/api/v1/tasks/{task.json()['id']}", headers=admin)
        assert other.status_code == 404, "an admin of another tenant is another tenant"
        assert (await native.client.get("/api/v1/keys", headers=client)).status_code == 403
        listed = await native.client.get("/api/v1/keys", headers=admin)
        assert made.json()["key"].split("_")[2] not in listed.text
        await native.client.delete(f"/api/v1/keys/{made.json()['id']}", headers=admin)
        assert (await native.client.get("/api/v1/info", headers=client)).status_code == 401

    serve(test, with_keys=True)


def test_each_role_reaches_the_routes_of_its_permissions_and_no_other(serve: Serve) -> None:
    """X-62: role x route over the whole route table: 403 exactly where the table of roles says so."""

    async def test(native: Any) -> None:
        seen = set()
        for role in Role:
            key = await native.ring.create(
                LOCAL_PRINCIPAL, tenant="acme", roles=[role.value], rate=None, name=""
            )
            for method, path, permission in route_permissions(native.application):
                place = path.replace("{model}", "double").replace("{version}", "1").format(
                    request_id="known", device_id="none", task_id="none", key_id="none",
                    name="w0",
                )  # fmt: skip
                answer = await native.client.request(
                    method,
                    place,
                    headers={"x-api-key": key.text},
                    content=b"{}" if method in {"POST", "PUT"} else None,
                )
                allowed = permission in ROLE_PERMISSIONS[role]
                assert (answer.status_code != 403) is allowed, (role, method, path, answer.text)
                assert answer.status_code < 500
                seen.add((role, permission, allowed))
        assert {True, False} == {allowed for role, _, allowed in seen if role is Role.CLIENT}
        assert len({p for _, p, _ in seen}) == 5

    serve(test, with_keys=True)


def test_the_request_over_the_rate_is_refused_and_another_key_is_not(serve: Serve) -> None:
    """X-64."""

    async def test(native: Any) -> None:
        keys = [
            await native.ring.create(LOCAL_PRINCIPAL, tenant="t", roles=["client"], rate="3/minute", name="")
            for _ in range(2)
        ]
        for expected in (200, 200, 200, 429):
            answer = await native.client.get("/api/v1/info", headers={"x-api-key": keys[0].text})
            assert answer.status_code == expected
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        other = await native.client.get("/api/v1/info", headers={"x-api-key": keys[1].text})
        assert other.status_code == 200

    serve(test, with_keys=True)


def test_the_principal_of_the_shell_is_taken_as_it_is(serve: Serve) -> None:
    """The shell authenticated already; asking twice would count twice against the rate."""

    async def test(native: Any) -> None:
        async def shell(scope: Any, receive: Any, send: Any) -> None:
            state = {"principal": LOCAL_PRINCIPAL, "request_id": "r-7"}
            await native.application({**scope, "state": state}, receive, send)

        native.client._transport.app = shell
        assert (await native.client.get("/api/v1/info")).status_code == 200
        assert (await native.client.get("/api/v1/tasks/no")).json()["request_id"] == "r-7"

    serve(test, with_keys=True)


def test_two_versions_of_the_api_are_served_together(serve: Serve) -> None:
    """L4-40: a toy second version beside the first, each with its contract."""
    router = APIRouter()

    @router.get("/tasks")
    async def count_tasks(caller: Reader) -> dict[str, str]:
        return {"v2": caller.id}

    async def test(native: Any) -> None:
        both = native_application(native.parts, (V1, ApiVersion(number=2, routers=(router,))))
        native.client._transport.app = both
        assert (await native.client.get("/api/v2/tasks")).json() == {"v2": "local"}
        assert (await native.client.get("/api/v1/tasks")).json() == {"tasks": [], "next": None}
        assert (await native.client.get("/api/v1/info")).json()["api_versions"] == [1, 2]
        assert (await native.client.get("/api/v3/tasks")).status_code == 404
        paths = both.openapi()["paths"]
        assert {"/api/v1/tasks", "/api/v2/tasks"} <= set(paths)

    serve(test)


def test_every_operation_declares_its_permission_its_errors_and_a_unique_id(serve: Serve) -> None:
    """L4-38, L4-39: nouns in the plural, verbs of HTTP, one problem schema."""

    async def test(native: Any) -> None:
        document = native.application.openapi()
        operations = [
            (method, path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]
        assert len(operations) >= 20
        assert len({operation["operationId"] for _, _, operation in operations}) == len(operations)
        for _, path, operation in operations:
            assert operation["x-plumbline-permission"]
            assert operation["summary"]
            assert "422" not in operation["responses"]
            for status, response in operation["responses"].items():
                if status[0] in "45":
                    assert list(response["content"]) == ["application/problem+json"]
            assert path.startswith("/api/v1/")
            assert not path.endswith("/")
            assert not {"get", "create", "delete", "update"} & set(path.split("/"))
        assert document["security"] == [{"bearer": []}, {"header": []}]

    serve(test, with_keys=True)


def test_the_reference_page_lists_every_operation_and_can_run_nothing(serve: Serve) -> None:
    """X-58: text of a document is escaped, and the page may load and run nothing."""

    async def test(native: Any) -> None:
        page = await native.client.get("/docs")
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        for path in native.application.openapi()["paths"]:
            assert f" {path}</code>" in page.text
        assert "<script" not in page.text
        hostile = {"info": {"title": XSS}, "paths": {XSS: {XSS: {"summary": XSS, "description": XSS}}}}
        assert "<script" not in reference_page(hostile)
        assert "<img" not in reference_page(hostile)

    serve(test)
