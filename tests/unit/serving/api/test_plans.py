"""Memory plans over the native API: who reads them, what a browser may do with one (L2-20, L4-56)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from plumbline.contracts.identity import LOCAL_PRINCIPAL
from plumbline.testing.native_parts import FakePlans, VersionNotThere

Serve = Callable[..., None]
PLAN = "/api/v1/models/double/versions/1/plan"


def test_the_plan_of_a_version_is_a_document_with_each_buffer(serve: Serve) -> None:
    async def test(native: Any) -> None:
        answer = await native.client.get(PLAN)
        assert answer.status_code == 200, answer.text
        (plan,) = answer.json()["plans"]
        assert plan["peak_bytes"] == plan["lower_bound_bytes"] == 256
        assert plan["buffers"] == [
            {"name": "x", "offset_bytes": 0, "size_bytes": 256, "first_step": 0, "last_step": 0}
        ]

    serve(test, plans=FakePlans())


def test_a_picture_may_use_its_own_style_and_nothing_else(serve: Serve) -> None:
    """X-58: whatever a model file made of it, a browser runs and loads nothing."""

    async def test(native: Any) -> None:
        answer = await native.client.get(f"{PLAN}.svg")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "image/svg+xml"
        assert answer.content == FakePlans.svg
        style = base64.b64encode(hashlib.sha256(b"rect { fill: red }").digest()).decode()
        policy = answer.headers["content-security-policy"].split("; ")
        assert policy[:2] == ["default-src 'none'", f"style-src 'sha256-{style}'"]
        assert "sandbox" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"

    serve(test, plans=FakePlans())


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_a_picture_that_the_caller_holds_is_not_sent_again(serve: Serve, form: str) -> None:
    async def test(native: Any) -> None:
        first = await native.client.get(f"{PLAN}.svg")
        tag = first.headers["etag"]
        assert tag == f'"{hashlib.sha256(FakePlans.svg).hexdigest()}"'
        again = await native.client.get(f"{PLAN}.svg", headers={"if-none-match": form.format(tag)})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
        changed = await native.client.get(f"{PLAN}.svg", headers={"if-none-match": '"other"'})
        assert changed.status_code == 200

    serve(test, plans=FakePlans())


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/v1/models/nobody/versions/1/plan", "validation.native_model"),
        ("/api/v1/models/double/versions/77/plan.svg", "validation.native_model"),
        ("/api/v1/models/double/versions/2/plan", VersionNotThere.code),
        ("/api/v1/models/reverse/versions/1/plan.svg", VersionNotThere.code),
        (f"{PLAN}.svg?stage=other@1", VersionNotThere.code),
    ],
)
def test_what_has_no_plan_is_a_problem_document(serve: Serve, path: str, code: str) -> None:
    async def test(native: Any) -> None:
        answer = await native.client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, code)
        assert answer.headers["content-type"] == "application/problem+json"

    serve(test, plans=FakePlans())


@pytest.mark.parametrize("path", [PLAN, f"{PLAN}.svg"])
def test_a_server_without_plans_refuses_by_name(serve: Serve, path: str) -> None:
    async def test(native: Any) -> None:
        answer = await native.client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "validation.not_offered")

    serve(test)


@pytest.mark.parametrize("path", [PLAN, f"{PLAN}.svg"])
def test_a_client_key_reads_plans_and_no_key_reads_none(serve: Serve, path: str) -> None:
    """X-62."""

    async def test(native: Any) -> None:
        made = await native.ring.create(LOCAL_PRINCIPAL, tenant="acme", roles=["client"], rate=None, name="")
        assert (await native.client.get(path)).status_code == 401
        assert (await native.client.get(path, headers={"x-api-key": made.text})).status_code == 200

    serve(test, plans=FakePlans(), with_keys=True)


def test_the_document_of_the_api_says_that_a_picture_is_svg(serve: Serve) -> None:
    async def test(native: Any) -> None:
        paths = native.application.openapi()["paths"]
        drawn = paths["/api/v1/models/{model}/versions/{version}/plan.svg"]["get"]
        assert list(drawn["responses"]["200"]["content"]) == ["image/svg+xml"]
        assert "304" in drawn["responses"]
        assert drawn["x-plumbline-permission"] == "read"

    serve(test, plans=FakePlans())
