"""API keys at the real process: roles, tenants, rates, revocation (X-60, X-62, X-63, X-64)."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

READ = ("GET", "/api/v1/models", None)
INFER = (
    "POST",
    "/v2/models/echo/infer",
    {"inputs": [{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.0] * 16}]},
)
TASKS = ("GET", "/api/v1/tasks", None)
MODELS = ("POST", "/v2/repository/models/none/load", {})
PIN = ("PUT", "/api/v1/models/none/versions/1/pin", None)
TRACE = ("POST", "/v2/trace/setting", {})
DEVICES = ("POST", "/api/v1/devices/none/drain", None)
RESUME = ("POST", "/api/v1/devices/none/resume", None)
RETIRE = ("POST", "/api/v1/devices/none/retire", None)
METRICS = ("GET", "/metrics", None)
KEYS = ("GET", "/api/v1/keys", None)

ROUTES: list[tuple[Any, set[str]]] = [
    (READ, {"client", "operator", "admin"}),
    (INFER, {"client", "operator", "admin"}),
    (TASKS, {"client", "operator", "admin"}),
    (MODELS, {"operator", "admin"}),
    (PIN, {"operator", "admin"}),
    (TRACE, {"operator", "admin"}),
    (DEVICES, {"operator", "admin"}),
    (RESUME, {"operator", "admin"}),
    (RETIRE, {"operator", "admin"}),
    (METRICS, {"operator", "admin"}),
    (KEYS, {"admin"}),
]


@pytest.mark.parametrize("role", ["client", "operator", "admin"])
@pytest.mark.parametrize(
    ("route", "roles"), ROUTES, ids=lambda value: value[1] if isinstance(value, tuple) else ""
)
def test_a_role_reaches_its_routes_and_no_other(keyed: Any, role: str, route: Any, roles: set[str]) -> None:
    """X-62, over real HTTP and both families of routes."""
    method, path, body = route
    status, _, document = keyed.server.ask(method, path, body, headers=keyed.headers(role))
    if role in roles:
        assert status in {200, 404}, document
    else:
        assert (status, document["code"]) == (403, "policy.permission")


@pytest.mark.parametrize("route", [READ, INFER, KEYS, METRICS, ("GET", "/v2", None)], ids=lambda v: v[1])
@pytest.mark.parametrize(
    "header",
    [{}, {"authorization": "Bearer plk_x"}, {"authorization": "Basic YTpi"},
     {"x-api-key": f"plk_{'0' * 16}_{'0' * 64}"}],
    ids=["none", "malformed", "basic", "unknown"],
)  # fmt: skip
def test_without_a_valid_key_nothing_is_told(keyed: Any, route: Any, header: dict[str, str]) -> None:
    """X-60: one answer for every kind of wrong key."""
    method, path, body = route
    status, headers, problem = keyed.server.ask(method, path, body, headers=header)
    assert (status, problem["code"]) == (401, "policy.api_key")
    assert headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/openapi.json"])
def test_what_a_load_balancer_asks_needs_no_key(keyed: Any, path: str) -> None:
    assert keyed.server.get(path)[0] == 200


def test_a_key_works_in_both_headers(keyed: Any) -> None:
    key = keyed.key("client")
    assert keyed.server.get("/api/v1/info", **{"x-api-key": key})[2]["principal"]["tenant"] == "acme"
    assert keyed.server.get("/api/v1/info", authorization=f"Bearer {key}")[0] == 200


def test_the_task_of_another_tenant_does_not_exist(keyed: Any) -> None:
    """X-63: 404 to read and to cancel, absent in the list; an id of one's own is free for everyone."""
    mine, theirs = keyed.headers("client", "acme"), keyed.headers("client", "globex")
    body = {"model": "echo", "inputs": INFER[2]["inputs"]}  # type: ignore[index]
    assert keyed.server.ask("PUT", "/api/v1/tasks/shared-name", body, headers=mine)[0] == 201
    for method in ("GET", "DELETE"):
        status, _, problem = keyed.server.ask(method, "/api/v1/tasks/shared-name", headers=theirs)
        assert (status, problem["code"]) == (404, "validation.task_unknown")
    listed = keyed.server.ask("GET", "/api/v1/tasks", headers=theirs)[2]
    assert "shared-name" not in [task["id"] for task in listed["tasks"]]
    assert keyed.server.ask("GET", "/api/v1/tasks/shared-name", headers=mine)[0] == 200


def test_the_request_above_the_rate_waits_and_other_keys_do_not(keyed: Any) -> None:
    """X-64: N requests, the next is 429 with Retry-After; another key of the same tenant goes on."""
    limited = keyed.headers("client", rate="5/hour", name="limited")
    other = keyed.headers("client")
    statuses = [keyed.server.ask(*READ, headers=limited)[0] for _ in range(5)]
    assert statuses == [200] * 5
    status, headers, problem = keyed.server.ask(*INFER, headers=limited)
    assert status == 429
    assert 1 <= int(headers["retry-after"]) <= 3600
    assert problem["recoverability"] == "transient"
    assert keyed.server.ask(*READ, headers=other)[0] == 200


def test_a_revoked_key_is_out_with_the_answer_to_its_revocation(keyed: Any) -> None:
    """X-60: at once at the gateway that revokes."""
    admin = keyed.headers("admin")
    made = keyed.server.ask("POST", "/api/v1/keys", {"tenant": "acme", "roles": ["client"]}, headers=admin)[2]
    headers = {"authorization": f"Bearer {made['key']}"}
    assert keyed.server.ask(*READ, headers=headers)[0] == 200
    assert keyed.server.ask("DELETE", f"/api/v1/keys/{made['id']}", headers=admin)[0] == 200
    assert keyed.server.ask(*READ, headers=headers)[0] == 401


def test_an_admin_of_a_tenant_makes_no_key_for_another(keyed: Any) -> None:
    """X-63."""
    body = {"tenant": "globex", "roles": ["admin"]}
    status, _, problem = keyed.server.ask("POST", "/api/v1/keys", body, headers=keyed.headers("admin"))
    assert (status, problem["code"]) == (403, "policy.tenant")


def test_no_secret_is_in_the_store_the_list_or_the_log(keyed: Any) -> None:
    """X-60: hashed at rest."""
    secret = keyed.key("admin").rpartition("_")[2]
    listed = keyed.server.ask(*KEYS, headers=keyed.headers("admin"))[2]
    assert secret not in str(listed)
    for file in keyed.server.state.rglob("*"):
        with suppress(FileNotFoundError, IsADirectoryError):  # the server goes on and rotates what it writes
            assert secret.encode() not in file.read_bytes(), file.name
