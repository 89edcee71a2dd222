"""Pins, retirements and the end of a canary over the native API (L4-56; sections 4 and 5 of the gateway)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from plumbline.contracts.identity import LOCAL_PRINCIPAL
from plumbline.testing.native_parts import VersionNotThere

Serve = Callable[..., None]
CHANGES = [
    ("PUT", "/api/v1/models/double/versions/1/pin", ("pin", "double", "1")),
    ("DELETE", "/api/v1/models/double/versions/1/pin", ("unpin", "double", "1")),
    ("POST", "/api/v1/models/double/versions/1/retire", ("retire", "double", "1")),
    ("POST", "/api/v1/models/double/canary/promote", ("promote", "double")),
]


class Recorder:
    """Publication and canaries of one model, `double`: keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def _note(self, *words: str) -> None:
        if words[1] != "double":
            raise VersionNotThere(name=words[1])
        self.asked.append(words)

    async def pin(self, model: str, version: str) -> None:
        self._note("pin", model, version)

    async def unpin(self, model: str, version: str) -> None:
        self._note("unpin", model, version)

    async def retire(self, model: str, version: str) -> None:
        self._note("retire", model, version)

    def canary(self, model: str) -> Mapping[str, Any]:
        self._note("canary", model)
        return {"model": model, "state": "none"}

    async def set_canary(self, model: str, version: str, share: float) -> Mapping[str, Any]:
        self._note("set_canary", model, version, str(share))
        return {"model": model, "state": "running"}

    async def roll_back(self, model: str) -> Mapping[str, Any]:
        self._note("roll_back", model)
        return {"model": model, "state": "rolled_back"}

    async def promote(self, model: str) -> Mapping[str, Any]:
        self._note("promote", model)
        return {"model": model, "state": "promoted"}


@pytest.mark.parametrize(("method", "path", "asked"), CHANGES, ids=lambda v: str(v)[-12:])
def test_a_change_reaches_the_directory_once_and_answers_with_what_is_there_now(
    serve: Serve, method: str, path: str, asked: tuple[str, ...]
) -> None:
    recorder = Recorder()

    async def test(native: Any) -> None:
        answer = await native.client.request(method, path)
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] == "double"
        unknown = await native.client.request(method, path.replace("double", "nobody"))
        assert unknown.status_code == 404
        assert unknown.json()["code"] == VersionNotThere.code
        assert recorder.asked == [asked]

    serve(test, canary=recorder, publication=recorder)


def test_the_canary_of_a_model_can_be_read(serve: Serve) -> None:
    async def test(native: Any) -> None:
        answer = await native.client.get("/api/v1/models/double/canary")
        assert (answer.status_code, answer.json()["state"]) == (200, "none")

    serve(test, canary=Recorder())


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in CHANGES])
def test_a_server_without_the_service_refuses_by_name(serve: Serve, method: str, path: str) -> None:
    async def test(native: Any) -> None:
        answer = await native.client.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (404, "validation.not_offered")

    serve(test)


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in CHANGES])
def test_a_client_key_changes_nothing(serve: Serve, method: str, path: str) -> None:
    """X-62."""
    recorder = Recorder()

    async def test(native: Any) -> None:
        made = await native.ring.create(LOCAL_PRINCIPAL, tenant="acme", roles=["client"], rate=None, name="")
        answer = await native.client.request(method, path, headers={"x-api-key": made.text})
        assert (answer.status_code, answer.json()["code"]) == (403, "policy.permission")
        assert recorder.asked == []

    serve(test, canary=recorder, publication=recorder, with_keys=True)
