"""What the door does before a route is asked, without a server."""

import asyncio
import gzip
import json
import zlib

import pytest

from plumbline.errors import (
    ArtifactError,
    BackendError,
    DecodingError,
    ExecutionError,
    PolicyError,
    Recoverability,
    ResourceError,
    ValidationError,
)
from plumbline.serving.gateway.application import build_application
from plumbline.serving.gateway.limits import GatewayLimits
from plumbline.serving.gateway.parts import GatewayOptions
from plumbline.serving.gateway.problems import without_paths
from plumbline.serving.gateway.refusals import OriginListRefused
from plumbline.serving.open_inference import infer_response
from plumbline.serving.open_inference.infer_response import PART_VALUES
from plumbline.serving.open_inference.refusals import ExtensionRefused
from plumbline.serving.open_inference.trace_settings import TraceSettings
from plumbline.testing.gateways import (
    FakeAuthenticator,
    FakeHealth,
    FakeInference,
    FakeModels,
    ask,
    ask_soon,
    fake_gateway,
)

INFER = "/v2/models/echo/infer"
BODY = json.dumps({"inputs": [{"name": "FP32", "shape": [1], "datatype": "FP32", "data": [1]}]}).encode()
PROBLEM = {
    *("type", "title", "status", "detail", "instance", "code", "class", "recoverability", "request_id"),
    *("side_effect", "fields", "context"),
}


def door(**parts):
    return build_application(fake_gateway(**parts))


def verify_problem(told, status, code=""):
    problem = told.json()
    assert told.status == problem["status"] == status
    assert told.headers["content-type"] == "application/problem+json"
    assert set(problem) >= PROBLEM
    assert problem["request_id"] == told.headers["x-request-id"]
    assert code in problem["code"]
    return problem


# -- problems (L4-39, X-26..X-36) ----------------------------------------------------------------------------

CLASSES = [
    ArtifactError,
    ValidationError,
    ResourceError,
    BackendError,
    ExecutionError,
    DecodingError,
    PolicyError,
]


@pytest.mark.parametrize("kind", CLASSES)
def test_each_class_of_failure_can_be_told_apart(kind):
    inference = FakeInference()
    inference.error = kind()
    problem = verify_problem(ask(door(inference=inference), "POST", INFER, body=BODY), kind.http_status)
    assert problem["class"] == kind.error_class
    assert problem["error"] == problem["detail"]
    assert {"module", "line", "function"} == set(problem["context"])


def test_a_transient_failure_says_when_to_come_again():
    class Busy(ResourceError):
        recoverability = Recoverability.TRANSIENT
        retry_after_s = 1.2

    inference = FakeInference()
    inference.error = Busy()
    told = ask(door(inference=inference), "POST", INFER, body=BODY)
    assert verify_problem(told, 503)["retry_after"] == 1.2
    assert told.headers["retry-after"] == "2"


def test_an_unexpected_exception_is_our_fault_and_tells_nothing(caplog):
    inference = FakeInference()
    inference.error = RuntimeError("secret payload in /srv/private/model.onnx")
    problem = verify_problem(ask(door(inference=inference), "POST", INFER, body=BODY), 500, "internal")
    assert "secret" not in json.dumps(problem)
    assert "secret" not in caplog.text
    assert problem["request_id"] in caplog.text


def test_machine_paths_do_not_leave_in_message_or_fields():
    assert without_paths("read /home/u/a.onnx and ~/x/y.bin") == "read .../a.onnx and .../y.bin"
    assert without_paths("there is nothing at /v2/models/a/b/c, 3 requests/s") == (
        "there is nothing at /v2/models/a/b/c, 3 requests/s"
    )


# -- routes (L4-25, L4-30..L4-32, L4-38) ---------------------------------------------------------------------


def test_every_route_answers_with_a_request_id():
    application = door(metrics=lambda: (b"up 1\n", "text/plain"))
    for method, path in (
        ("GET", "/"),
        ("GET", "/health"),
        ("GET", "/metrics"),
        ("GET", "/nothing"),
        ("POST", "/v2"),
    ):
        assert ask(application, method, path).headers["x-request-id"]


def test_unknown_addresses_and_methods_are_problems():
    verify_problem(ask(door(), "GET", "/nothing"), 404, "route_unknown")
    told = ask(door(), "DELETE", "/v2/models/echo")
    verify_problem(told, 405, "method")
    assert told.headers["allow"] == "GET, HEAD, OPTIONS"
    assert ask(door(), "HEAD", "/v2").body == b""


def test_an_unknown_version_in_the_address_names_those_that_exist():
    assert "/api/v1" in verify_problem(ask(door(), "GET", "/api/v9/tasks"), 404)["detail"]


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/vnd.plumbline.v1+json", 200),
        ("application/vnd.plumbline.v9+json", 406),
        ("application/vnd.plumbline.vx+json", 406),
        ("application/vnd.plumbline.v9+json, application/vnd.plumbline.v1+json", 200),
        ("application/vnd.plumbline.v9+json, */*;q=0.1", 200),
        ("text/html", 200),
    ],
)
def test_the_accept_header_picks_the_version(accept, status):
    """L4-41."""
    told = ask(door(), "GET", "/v2", headers=[("accept", accept)])
    assert told.status == status


def test_the_service_tells_its_name_and_versions_and_shows_browsers_a_page():
    page = b"<html><script>go()</script><style>p{}</style></html>"
    application = door(status_page=page, options=GatewayOptions(name="here", version="1.2"))
    told = ask(application, "GET", "/")
    assert told.json()["name"] == "here"
    assert told.json()["contract_versions"] == ["v1"]
    shown = ask(application, "GET", "/", headers=[("accept", "text/html,*/*")])
    assert shown.body == page
    policy = shown.headers["content-security-policy"]
    assert policy.count("sha256-") == 2
    assert "unsafe" not in policy


def test_live_and_ready_differ_until_a_real_inference_passed():
    """L4-31."""
    application = door(health=FakeHealth(ready=False, checks={"model": "warming"}))
    assert ask(application, "GET", "/health/live").status == 200
    assert ask(application, "GET", "/v2/health/live").status == 200
    problem = verify_problem(ask(application, "GET", "/health/ready"), 503, "server_not_ready")
    assert problem["fields"]["checks"] == {"model": "warming"}
    assert ask(application, "GET", "/v2/health/ready").status == 503
    assert ask(application, "GET", "/health").json()["ready"] is False


def test_models_are_loaded_and_unloaded_with_version_and_settings():
    models = FakeModels()
    application = door(models=models)
    body = json.dumps({"parameters": {"version": "1", "config": '{"instances": 2}'}}).encode()
    assert ask(application, "POST", "/v2/repository/models/echo/load", body=body).status == 200
    assert ask(application, "POST", "/v2/repository/models/echo/unload").status == 200
    assert models.operations == [("load", "echo", "1", {"instances": 2}), ("unload", "echo", None, None)]
    verify_problem(ask(application, "GET", "/v2/models/echo/ready"), 400, "model_not_ready")
    files = json.dumps({"parameters": {"file:1/model.so": "AAAA"}}).encode()
    told = ask(application, "POST", "/v2/repository/models/echo/load", body=files)
    verify_problem(told, 400, "extension_unsupported")
    for wrong in (b"[]", b"{", b'{"parameters": 3}', b'{"parameters": {"config": "{"}}'):
        assert ask(application, "POST", "/v2/repository/models/echo/load", body=wrong).status == 400


def test_trace_settings_choose_which_requests_leave_their_times():
    seen = []
    application = door(trace=TraceSettings(seen.append))
    body = b'{"trace_level": ["TIMESTAMPS"], "trace_rate": "2", "trace_count": "2"}'
    assert ask(application, "POST", "/v2/trace/setting", body=body).status == 200
    for _ in range(8):
        ask(application, "POST", INFER, body=BODY)
    assert len(seen) == 2
    assert "FP32" not in json.dumps(seen)
    assert ask(application, "POST", "/v2/trace/setting", body=b'{"trace_level": null}').json()[
        "trace_level"
    ] == ["OFF"]
    with pytest.raises(ExtensionRefused):
        TraceSettings().update({"trace_level": ["TIMESTAMPS"]})


# -- who asks (X-54, L4-28) ----------------------------------------------------------------------------------


def test_without_keys_everyone_is_the_local_principal():
    inference = FakeInference()
    ask(door(inference=inference), "POST", INFER, body=BODY)
    assert inference.calls[0].tenant == "local"


@pytest.mark.parametrize(
    ("key", "path", "method", "status"),
    [
        (None, INFER, "POST", 401),
        ("wrong", INFER, "POST", 401),
        ("client-key", INFER, "POST", 200),
        ("client-key", "/v2/models/echo", "GET", 200),
        ("client-key", "/v2/repository/models/echo/unload", "POST", 403),
        ("operator-key", "/v2/repository/models/echo/unload", "POST", 200),
        (None, "/v2", "GET", 401),
        (None, "/health/live", "GET", 200),
        (None, "/", "GET", 200),
    ],
)
def test_a_key_opens_what_its_role_may(key, path, method, status):
    headers = [] if key is None else [("authorization", f"Bearer {key}")]
    body = BODY if path == INFER else b""
    told = ask(door(authenticator=FakeAuthenticator()), method, path, headers=headers, body=body)
    assert told.status == status
    if status >= 400:
        verify_problem(told, status)
    if status == 401:
        assert told.headers["www-authenticate"].startswith("Bearer")


def test_a_key_above_its_rate_is_told_when_to_come_again():
    application = door(authenticator=FakeAuthenticator(rate=1))
    headers = [("x-api-key", "client-key")]
    assert ask(application, "GET", "/v2", headers=headers).status == 200
    told = ask(application, "GET", "/v2", headers=headers)
    verify_problem(told, 429)
    assert told.headers["retry-after"] == "3"


HERE = "http://127.0.0.1:8000"
PAGE = "https://page.example"


@pytest.mark.parametrize(
    ("method", "origin", "allowed", "status", "named"),
    [
        ("POST", None, (), 200, None),
        ("POST", HERE, (), 200, None),
        ("POST", PAGE, (), 403, None),
        ("POST", "null", (), 403, None),
        ("POST", PAGE, (PAGE,), 200, PAGE),
        ("POST", PAGE + ".evil", (PAGE,), 403, None),
        ("GET", PAGE, (), 200, None),
        ("GET", PAGE, (PAGE,), 200, PAGE),
        ("OPTIONS", PAGE, (), 403, None),
        ("OPTIONS", PAGE, (PAGE,), 204, PAGE),
    ],
)
def test_only_allowed_origins_read_and_write(method, origin, allowed, status, named):
    """L4-28."""
    application = door(options=GatewayOptions(allowed_origins=allowed))
    headers = [] if origin is None else [("origin", origin)]
    if method == "OPTIONS":
        headers.append(("access-control-request-method", "POST"))
    path = "/v2" if method == "GET" else INFER
    told = ask(application, method, path, headers=headers, body=BODY if method == "POST" else b"")
    assert told.status == status
    assert told.headers.get("access-control-allow-origin") == named
    assert ("access-control-allow-methods" in told.headers) == (method == "OPTIONS" and named is not None)


@pytest.mark.parametrize(
    "origin", ["*", "page.example", "https://page.example/", "https://*.example", "null"]
)
def test_an_allow_list_holds_exact_origins_only(origin):
    with pytest.raises(OriginListRefused):
        door(options=GatewayOptions(allowed_origins=(origin,)))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:80", 200),
        ("[::1]:80", 200),
        ("evil.example", 403),
        ("127.0.0.1.x:80", 403),
    ],
)
def test_a_local_gateway_answers_to_local_names_only(host, status):
    assert ask(door(), "GET", "/v2", headers=[("host", host)]).status == status


# -- limits (X-56, L4-27) ------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["", "x" * 129, "tab\there", "\xe4"])
def test_a_request_id_that_cannot_travel_is_refused(given):
    verify_problem(ask(door(), "GET", "/v2", headers=[("x-request-id", given)]), 400, "request_id")


def test_a_request_id_of_the_client_is_kept_and_reaches_the_call():
    inference = FakeInference()
    told = ask(door(inference=inference), "POST", INFER, body=BODY, headers=[("x-request-id", "mine 1")])
    assert told.headers["x-request-id"] == inference.calls[0].id == "mine 1"


def test_too_many_or_too_large_headers_are_refused():
    application = door()
    verify_problem(ask(application, "GET", "/v2", headers=[(f"h{i}", "x") for i in range(200)]), 431)
    verify_problem(ask(application, "GET", "/v2", headers=[("h", "x" * 40_000)]), 431)
    verify_problem(ask(application, "GET", "/v2/" + "x" * 9_000), 431)
    verify_problem(
        ask(application, "GET", "/v2", headers=[("authorization", "a"), ("authorization", "b")]), 431
    )


def test_a_body_beyond_the_limit_is_refused_announced_or_not():
    application = door(limits=GatewayLimits(max_body_bytes=100))
    verify_problem(ask(application, "POST", INFER, headers=[("content-length", "101")]), 413)
    verify_problem(ask(application, "POST", INFER, body=b"x" * 101), 413)
    verify_problem(ask(application, "POST", INFER, body=[b"x" * 60, b"x" * 60]), 413)


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_bodies_are_inflated_within_the_limit(encoding, pack):
    application = door(limits=GatewayLimits(max_body_bytes=100_000))
    headers = [("content-encoding", encoding)]
    assert ask(application, "POST", INFER, headers=headers, body=pack(BODY)).status == 200
    bomb = pack(b" " * 50_000_000)
    assert len(bomb) < 100_000
    verify_problem(ask(application, "POST", INFER, headers=headers, body=bomb), 413)
    verify_problem(ask(application, "POST", INFER, headers=headers, body=pack(BODY)[:-6]), 400, "unreadable")
    verify_problem(
        ask(application, "POST", INFER, headers=headers, body=pack(BODY) + b"x"), 400, "unreadable"
    )
    verify_problem(ask(application, "POST", INFER, headers=headers, body=BODY), 400, "unreadable")


@pytest.mark.parametrize("name", ["content-type", "content-encoding"])
def test_an_unknown_media_type_or_encoding_is_refused(name):
    for value in ("multipart/form-data", "text/plain", "br"):
        verify_problem(ask(door(), "POST", INFER, headers=[(name, value)], body=BODY), 415)


FORM = ("content-type", "application/x-www-form-urlencoded; charset=utf-8")


@pytest.mark.parametrize("path", [INFER, "/v2/repository/index"])
def test_what_curl_says_when_nobody_said_a_media_type_is_read_as_json(path):
    """`curl -d '{...}'`, as clients of the protocol are used to."""
    body = BODY if path == INFER else b"{}"
    assert ask(door(), "POST", path, headers=[FORM], body=body).status == 200


@pytest.mark.parametrize(
    "sign",
    [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
        ("referer", "https://evil.example/"),
        ("cookie", "a=b"),
    ],
)
def test_a_form_of_a_browser_is_refused_even_where_it_names_no_origin(sign):
    """L4-28: a page may send this media type to any server without asking."""
    verify_problem(ask(door(), "POST", INFER, headers=[FORM, sign], body=BODY), 415)
    for path in ("/v2/repository/models/echo/unload", "/api/v1/tasks"):
        verify_problem(ask(door(native=native), "POST", path, headers=[FORM, sign], body=b"{}"), 415)


def test_a_form_of_another_origin_and_a_form_for_the_native_api_are_refused():
    foreign = [FORM, ("origin", "null")]
    assert ask(door(), "POST", INFER, headers=foreign, body=BODY).status == 403
    verify_problem(ask(door(native=native), "POST", "/api/v1/tasks", headers=[FORM], body=b"{}"), 415)


@pytest.mark.parametrize("beyond", [-1, 0, 1, PART_VALUES + 7])
def test_a_large_answer_as_json_is_written_in_parts_with_the_same_values(beyond):
    """33 million values took the event loop 9 s, and every other request with it."""
    values = [float(n % 251) for n in range(PART_VALUES + beyond)]
    tensor = {"name": "FP32", "shape": [len(values)], "datatype": "FP32", "data": values}
    told = ask(door(), "POST", INFER, body=json.dumps({"inputs": [tensor]}).encode())
    assert told.status == 200
    assert json.loads(told.body)["outputs"][0]["data"] == values


def test_an_answer_too_large_for_json_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(infer_response, "MAX_JSON_VALUES", 3)
    tensor = {"name": "FP32", "shape": [4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    told = ask(door(), "POST", INFER, body=json.dumps({"inputs": [tensor]}).encode())
    verify_problem(told, 406, "output_not_json")
    assert "has 4 values, at most 3 as JSON" in json.loads(told.body)["detail"]


def test_a_large_answer_is_compressed_only_for_who_asks_for_that():
    body = json.dumps({"inputs": [{"name": "FP32", "shape": [999], "datatype": "FP32", "data": [0] * 999}]})
    for accept, packed in (("gzip", True), ("deflate", True), ("gzip, deflate, br", False)):
        told = ask(door(), "POST", INFER, headers=[("accept-encoding", accept)], body=body.encode())
        assert ("content-encoding" in told.headers) == packed
    assert b'"model_name"' in ask(door(), "POST", INFER, body=body.encode()).body


async def asked(inference, calls):
    """Wait until that many calls have come to the engine."""
    while len(inference.calls) < calls:
        await asyncio.sleep(0.001)


def test_more_requests_than_there_is_room_for_are_refused_and_later_taken():
    async def scenario():
        inference = FakeInference()
        inference.hold = True
        application = door(inference=inference, limits=GatewayLimits(max_requests=2))
        held = [asyncio.create_task(ask_soon(application, "POST", INFER, body=BODY)) for _ in range(2)]
        await asked(inference, 2)
        refused = await ask_soon(application, "POST", INFER, body=BODY)
        live = await ask_soon(application, "GET", "/health/live")
        inference.release()
        done = [(await task).status for task in held]
        return refused, live, done, (await ask_soon(application, "POST", INFER, body=BODY)).status

    refused, live, done, after = asyncio.run(scenario())
    verify_problem(refused, 503, "gateway_full")
    assert (live.status, done, after) == (200, [200, 200], 200)


def test_bodies_together_are_bounded():
    application = door(limits=GatewayLimits(max_buffered_bytes=10))
    verify_problem(ask(application, "POST", INFER, body=BODY), 503, "gateway_full")
    assert len(application.flights) == 0


def test_a_request_id_in_flight_is_not_given_twice():
    async def scenario():
        inference = FakeInference()
        inference.hold = True
        application = door(inference=inference)
        named = {"headers": [("x-request-id", "same")], "body": BODY}
        first = asyncio.create_task(ask_soon(application, "POST", INFER, **named))
        await asked(inference, 1)
        second = await ask_soon(application, "POST", INFER, **named)
        inference.release()
        return (await first).status, second

    first, second = asyncio.run(scenario())
    assert first == 200
    verify_problem(second, 409, "duplicate_request")


def test_a_body_that_does_not_come_is_given_up():
    async def scenario():
        application = door(limits=GatewayLimits(body_timeout_s=0.05))
        return await ask_soon(application, "POST", INFER, body=[])

    verify_problem(asyncio.run(scenario()), 408, "body_too_slow")


def test_a_draining_gateway_finishes_what_it_has_and_takes_nothing_new():
    async def scenario():
        inference = FakeInference()
        inference.hold = True
        application = door(inference=inference)
        first = asyncio.create_task(ask_soon(application, "POST", INFER, body=BODY))
        await asked(inference, 1)
        drained = asyncio.create_task(application.drain(60))
        await asyncio.sleep(0.01)
        refused = await ask_soon(application, "POST", INFER, body=BODY)
        ready = await ask_soon(application, "GET", "/health/ready")
        inference.release()
        return (await first).status, refused, ready, await drained

    first, refused, ready, left = asyncio.run(scenario())
    assert (first, left) == (200, 0)
    verify_problem(refused, 503, "gateway_draining")
    verify_problem(ready, 503, "gateway_draining")


# -- the native application ----------------------------------------------------------------------------------


async def native(scope, receive, send):
    message = await receive()
    if scope["path"].endswith("/fault"):
        raise RuntimeError("secret")
    text = f"{scope['state']['principal'].id} {scope['state']['request_id']} {message['body'].decode()}"
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


def test_the_native_application_gets_principal_request_id_and_a_bounded_body():
    application = door(native=native, limits=GatewayLimits(max_native_body_bytes=100, max_json_depth=5))
    path = "/api/v1/tasks"
    told = ask(application, "POST", path, body=b'{"a":1}', headers=[("x-request-id", "r1")])
    assert (told.body, told.headers["x-request-id"]) == (b'local r1 {"a":1}', "r1")
    verify_problem(ask(application, "POST", path, body=b"x" * 101), 413)
    verify_problem(ask(application, "POST", path, body=b"[" * 6 + b"]" * 6), 400, "nested_too_deep")
    assert ask(application, "POST", path, body=b'["' + b"[" * 50 + b'"]').status == 200
    verify_problem(ask(application, "POST", path, body=b"a=1", headers=[("content-type", "text/plain")]), 415)
    verify_problem(ask(application, "GET", "/api/v1/fault"), 500, "internal")
    vendor = [("accept", "application/vnd.plumbline.v1+json")]
    assert ask(application, "GET", path, headers=vendor).headers["content-type"] == vendor[0][1]
