"""The page of `/docs` in a real browser: every operation of the OpenAPI document, from this server alone."""

from __future__ import annotations

from typing import Any

import pytest


def test_every_operation_of_the_document_is_on_the_page(server: Any, page: Any) -> None:
    """L4-29."""
    document = server.get("/openapi.json")[2]
    methods = {"get", "put", "post", "delete", "patch"}
    operations = sum(len(methods & item.keys()) for item in document["paths"].values())
    assert operations > 30
    page.open(f"{server.base}/docs")
    page.wait(f"document.querySelectorAll('details').length === {operations}")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.wait(
        "document.querySelectorAll('details .inside').length === document.querySelectorAll('details').length"
    )
    assert page.complaints == []
    assert [a for a in page.addresses if not a.startswith(("data:", "about:", server.base))] == []


def test_the_reader_finds_an_operation_by_word(server: Any, page: Any) -> None:
    page.open(f"{server.base}/docs", width=400, dark=True)
    page.wait("document.querySelectorAll('details').length > 0")
    page.evaluate("document.querySelector('#filter').focus()")
    page.write("canary put")
    page.wait("document.querySelectorAll('details:not([hidden])').length === 1")
    assert page.text("#found") == "1 operations"
    page.click("details:not([hidden]) summary")
    page.wait("document.querySelector('details[open] .inside') !== null")
    assert "share" in page.text("details[open]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


@pytest.mark.slow
def test_the_page_is_there_without_a_key_as_the_document_is(start_server: Any) -> None:
    server = start_server("--load", "echo", "--require-keys")
    assert server.get("/openapi.json")[0] == 200
    status, headers, _ = server.get("/docs")
    assert status == 200
    assert "'unsafe" not in headers["content-security-policy"]
    assert server.get("/api/v1/models")[0] == 401
