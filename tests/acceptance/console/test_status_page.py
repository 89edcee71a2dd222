"""The page of `/` in a real browser (issue 3, section 5): what is so is what a person reads."""

from __future__ import annotations

import json
import os
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

LAUNCH = "document.querySelector('#timeline .launch')"
NASTY = "<script>window.stung=1</script><img src=x onerror=window.stung=1>"


def _show(page: Any, server: Any, **window: Any) -> None:
    page.open(f"{server.base}/", **window)
    page.wait("document.querySelector('#health').innerText === 'ready'")


def _assert_calm(page: Any, server: Any) -> None:
    """No error, no violation of policy, no address but this server's."""
    assert page.complaints == []
    outside = [a for a in page.addresses if not a.startswith(("data:", "about:", server.base))]
    assert outside == []


def test_models_workers_and_memory_are_those_of_the_server(server: Any, page: Any) -> None:
    _show(page, server)
    page.wait("document.querySelectorAll('#models tr').length === 3")
    shown = page.text("#models")
    for version in ("echo@1", "cnn@1", "scale@1"):
        assert version in shown
    assert "arenas" in shown
    assert "x FP32[n×16]" in shown
    assert "not stated" in shown, "the class states no memory"
    assert page.text("#memory").endswith(", 1 not stated")
    worker = server.workers()[0]
    assert str(worker["pid"]) in page.text("#workers").replace(",", "")
    assert page.text("#worker-count") == str(len(server.workers()))
    _assert_calm(page, server)


def test_a_real_request_appears_on_the_timeline_and_a_click_says_why_it_ran(server: Any, page: Any) -> None:
    """L4-17, L4-54."""
    _show(page, server)
    assert server.echo(1.0, **{"x-request-id": "seen-in-a-browser"})[0] == 200
    page.wait("document.querySelector('#launches').innerText.includes('seen-in-a-browser')")
    page.wait("document.querySelectorAll('#timeline .launch').length >= 1")
    page.click("#launches button")
    page.wait("document.querySelector('#explanation pre') !== null")
    assert "seen-in-a-browser" in page.text("#explanation")
    assert "chosen for launch" in page.text("#explanation")
    _assert_calm(page, server)


def test_the_mouse_over_a_launch_names_it_and_a_click_on_it_explains_it(server: Any, page: Any) -> None:
    _show(page, server)
    server.echo(1.0, **{"x-request-id": "under-the-mouse"})
    page.wait("document.querySelector('#launches').innerText.includes('under-the-mouse')")
    page.evaluate(
        "const s = document.querySelector('#span'); s.value = '-10'; s.dispatchEvent(new Event('change'))"
    )
    page.wait(f"{LAUNCH} !== null")
    page.click("#pause")
    page.wait("document.querySelector('#timeline-summary').innerText.includes('paused')")
    page.evaluate("document.querySelector('#timeline').lastElementChild.id = 'newest'")
    page.click("#newest")
    page.wait("document.querySelector('#explanation pre') !== null")
    assert "under-the-mouse" in page.text("#hint")
    assert "under-the-mouse" in page.text("#explanation")
    _assert_calm(page, server)


def test_what_was_served_is_counted(server: Any, page: Any) -> None:
    _show(page, server)
    page.wait("document.querySelector('#rate').innerText !== '–'")
    shown = (
        "Number(document.querySelector('#rate').innerText) > 0"
        " && /[mµn]s/.test(document.querySelector('#latency').innerText)"
    )
    end = time.monotonic() + 60
    while not page.evaluate(shown):  # it is the rate of the last moments: they must not be over
        assert time.monotonic() < end, page.text("body")
        assert server.echo(1.0)[0] == 200
    _assert_calm(page, server)


@pytest.mark.slow
def test_a_killed_worker_turns_the_page_and_its_successor_turns_it_back(start_server: Any, page: Any) -> None:
    """L4-72: the reason is shown, the event arrives by itself."""
    server = start_server("--load", "echo")
    server.wait_ready()
    _show(page, server)
    page.wait("document.querySelector('#socket').innerText === 'live'")
    page.evaluate(
        "window.seen = []; const text = (id) => document.querySelector(id).innerText;"
        "new MutationObserver(() => window.seen.push(`${text('#health')} ${text('#reason-list')}`))"
        ".observe(document.body, {childList: true, subtree: true, characterData: true})"
    )
    first = server.workers()[0]
    os.kill(first["pid"], signal.SIGKILL)
    page.wait("window.seen.some((text) => /^not ready .*worker is ready/.test(text))", 40.0)
    page.wait(
        "document.querySelector('#health').innerText === 'ready'"
        f" && !document.querySelector('#workers').innerText.includes('{first['pid']:,}')", 40.0,
    )  # fmt: skip
    assert "worker." in page.text("#events")
    assert page.evaluate("document.querySelector('#reasons').hidden")
    _assert_calm(page, server)


@pytest.mark.slow
def test_events_arrive_by_themselves_and_go_on_after_the_gateway_was_away(
    start_server: Any, page: Any, tmp_path: Path
) -> None:
    """L4-26, L4-55: a cursor of another run is not resumed behind."""
    server = start_server("--load", "echo", state=tmp_path)
    server.wait_ready()
    _show(page, server)
    page.wait("document.querySelector('#events').innerText.includes('model.ready')")
    assert server.terminate() == 0
    page.wait("document.querySelector('#health').innerText === 'unreachable'")
    port = str(urlsplit(server.base).port)
    again = start_server("--load", "echo", "--port", port, state=tmp_path)
    again.wait_ready()
    page.wait("document.querySelector('#health').innerText === 'ready'")
    page.wait("document.querySelector('#socket').innerText === 'live'", 30.0)
    again.post("/api/v1/models/echo/unload", {})
    page.wait("document.querySelector('#events').innerText.includes('model.unloaded')")
    assert page.evaluate(
        "[...document.querySelectorAll('#events li')].filter((one) =>"
        " /model.ready/.test(one.innerText)).length"
    ) == 1  # fmt: skip


@pytest.mark.slow
def test_with_keys_the_page_asks_for_one_and_keeps_it_nowhere(
    start_server: Any, page: Any, tmp_path: Path
) -> None:
    """X-60: no header, no cookie, no storage."""
    server = start_server("--load", "echo", state=tmp_path)
    server.wait_ready()
    body = {"tenant": "acme", "roles": ["client"], "name": "a browser"}
    _, _, made = server.post("/api/v1/keys", body)
    assert server.terminate() == 0
    server = start_server("--load", "echo", "--require-keys", state=tmp_path)
    page.open(f"{server.base}/")
    page.wait("!document.querySelector('#key-form').hidden")
    assert "echo" not in page.text("#models")
    page.write("plk_0000000000000000_wrong")
    page.click("#key-form button")
    page.wait("document.querySelector('#key-answer').innerText !== ''")
    page.write(made["key"])
    page.click("#key-form button")
    page.wait("document.querySelector('#models').innerText.includes('echo@1')")
    page.wait("document.querySelector('#socket').innerText === 'live'", 30.0)
    assert "of acme" in page.text("#version")
    kept = page.evaluate(
        "JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}, location.href,"
        " document.documentElement.outerHTML, document.querySelector('#key').value])"
    )
    assert made["key"] not in kept
    assert all(made["key"] not in address for address in page.addresses)


def test_names_with_markup_stay_names(server: Any, page: Any) -> None:
    """X-58: every text of the server is data, also where the server would let such a name pass."""
    answers = {
        "/api/v1/models": {"models": [{"name": NASTY, "ready": True, "versions": [{
            "model": NASTY, "version": NASTY, "state": NASTY, "ready": True, "reason": NASTY, "share": 1,
            "kind": NASTY, "memory_bytes": 7, "memory": {NASTY: 7}, "max_rows": 0, "unbatched_because": NASTY,
            "inputs": [{"name": NASTY, "datatype": NASTY, "shape": [1]}], "outputs": [],
        }]}]},
        "/api/v1/timeline": {"now_ns": 2_000_000, "launches": [{
            "worker": NASTY, "launch": 1, "stream": 0, "model": NASTY, "requests": [NASTY],
            "selected_ns": 1, "began_ns": 2, "ended_ns": 1_000_000,
        }]},
        "/api/v1/workers": {"workers": [{
            "name": NASTY, "generation": 1, "pid": 1, "state": NASTY, "queued": 0, "running": 0, "steps": 1,
            "versions": [], "memory_bytes": 1, "budget_bytes": None,
        }]},
        "/health": {"ready": False, "checks": {"reasons": [NASTY]}},
        "explain": {"lines": [NASTY]},
    }  # fmt: skip
    event = {"type": "event", "event": {
        "sequence": 1, "kind": NASTY, "subject": NASTY, "at": "2026-01-01T00:00:00Z",
        "fields": {NASTY: NASTY},
    }}  # fmt: skip
    page.command("Page.addScriptToEvaluateOnNewDocument", source=f"""
      const answers = {json.dumps(answers)}, asked = window.fetch;
      window.fetch = async (path, options) => {{
        const at = Object.keys(answers).find((one) => String(path).split("?")[0].endsWith(one));
        return at ? new Response(JSON.stringify(answers[at])) : asked(path, options);
      }};
      const Real = window.WebSocket;
      window.WebSocket = class extends Real {{
        constructor(...given) {{ super(...given); window.wire = this; }}
      }};
    """)  # fmt: skip
    page.open(f"{server.base}/")
    page.wait("document.querySelector('#launches button') !== null && window.wire !== undefined")
    page.evaluate(
        f"window.wire.dispatchEvent(new MessageEvent('message', {{data: {json.dumps(json.dumps(event))}}}))"
    )
    page.evaluate("document.querySelector('#launches button').click()")
    page.wait("document.querySelector('#explanation pre') !== null")
    page.wait("document.querySelector('#legend').innerText !== ''")
    for place in ("#models", "#workers", "#launches", "#explanation", "#events", "#reason-list", "#legend"):
        assert "<img src=x" in page.text(place), place
    assert page.evaluate("document.querySelectorAll('main script, main img').length") == 0
    assert page.evaluate("window.stung === undefined")
    _assert_calm(page, server)


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_fits_its_window_and_its_words_can_be_read(
    server: Any, page: Any, width: int, dark: bool
) -> None:
    """Contrast 4.5 of every text against what lies behind it (WCAG 2.2, 1.4.3); nothing scrolls sideways."""
    _show(page, server, width=width, dark=dark)
    page.wait("document.querySelectorAll('#models tr').length === 3")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate((Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")) == []
    unnamed = "[...document.querySelectorAll('input,select')].filter((one) => !one.labels.length).length"
    assert page.evaluate(unnamed) == 0
    assert page.evaluate("document.querySelectorAll('table thead th:not([scope])').length") == 0
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map((one) => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_a_program_gets_the_document_and_a_browser_the_page(server: Any) -> None:
    assert server.get("/")[2]["name"] == "plumbline"
    status, headers, body = server.get("/", accept="text/html,application/xhtml+xml")
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    assert "'unsafe" not in headers["content-security-policy"]
    assert b"http://" not in body.replace(b"http://www.w3.org/2000/svg", b"")
