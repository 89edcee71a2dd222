"""The memory plans on the page of `/` (issue 3, section 5): drawn, readable, and lazily read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from plumbline.compiler.planning.lifetimes import Buffer
from plumbline.compiler.planning.memory import MemoryPlanner
from plumbline.compiler.planning.picture import render_svg
from plumbline.product.serving.plan_drawing import SERVED_BOXES

LARGE = "document.querySelector('#plan-stage svg')"
THUMB = "button.thumb[data-key^='plan echo@1 '] svg"
NASTY = "<script>window.stung=1</script>"
HOSTILE = """<svg xmlns="http://www.w3.org/2000/svg" onload="window.stung=1"><title>t</title><desc>d</desc>
<style>body { display: none }</style><script>window.stung=1</script><foreignObject>
<body xmlns="http://www.w3.org/1999/xhtml"><img src="x" onerror="window.stung=1"/></body></foreignObject>
<image href="/x"/><a href="javascript:window.stung=1"><rect width="9" height="9"/></a>
<g onclick="window.stung=1"><title>&lt;script&gt;window.stung=1&lt;/script&gt;: 1 B</title>
<rect class="b" x="92" y="92" width="500" height="300" style="fill: red" fill="#7aa7e6"/></g></svg>"""
LATE = """
class Late:
    inputs = {"y": ("FP32", (-1, 16))}
    outputs = {"z": ("FP32", (-1, 16))}

    def run(self, inputs, parameters):
        return {"z": inputs["y"] + inputs["y"]}
"""


def _show(page: Any, server: Any, **window: Any) -> None:
    page.open(f"{server.base}/", **window)
    page.wait("document.querySelector('#health').innerText === 'ready'")
    page.wait("document.querySelectorAll('#models tr').length === 3")


def _choose(page: Any, version: str) -> None:
    """As the keyboard does, in the list above the large picture; the page reads it when it is in view."""
    page.wait(
        f"[...document.querySelectorAll('#plan-choice option')].some((one) => one.text === '{version}')"
    )
    page.evaluate(
        "(() => { const list = document.querySelector('#plan-choice'); list.scrollIntoView();"
        f" list.value = [...list.options].find((one) => one.text === '{version}').value;"
        " list.dispatchEvent(new Event('change')); })()"
    )
    page.wait(f"{LARGE} !== null && {LARGE}.getAttribute('aria-label').includes('Memory plan of {version}')")


def _box(page: Any, root: str, buffer: str) -> dict[str, float]:
    """Where the rectangle of a buffer is in the window, by the name in its title."""
    found: dict[str, float] = page.evaluate(
        f"(() => {{ const title = [...{root}.querySelectorAll('g > title')].find((one) =>"
        f" one.textContent.startsWith({json.dumps(buffer + ': ')}));"
        " const { x, y, width, height } = title.parentNode.querySelector('rect').getBoundingClientRect();"
        " return { x, y, width, height }; })()"
    )
    return found


def _assert_calm(page: Any, server: Any) -> None:
    assert page.complaints == []
    assert [a for a in page.addresses if not a.startswith(("data:", "about:", server.base))] == []


def test_the_plan_of_a_model_is_drawn_with_the_buffers_that_the_server_names(server: Any, page: Any) -> None:
    """L2-20: sizes and places of the picture are those of the document."""
    _show(page, server)
    _choose(page, "echo@1")
    (plan,) = server.get("/api/v1/models/echo/versions/1/plan")[2]["plans"]
    assert len(plan["buffers"]) >= 2
    places = {buffer["name"]: _box(page, LARGE, buffer["name"]) for buffer in plan["buffers"]}
    assert all(place["width"] > 20 and place["height"] > 20 for place in places.values())
    low, high = sorted(plan["buffers"], key=lambda buffer: buffer["offset_bytes"])[:2]
    assert places[low["name"]]["y"] > places[high["name"]]["y"], "addresses grow upwards"
    sizes = (
        high["size_bytes"] / low["size_bytes"],
        places[high["name"]]["height"] / places[low["name"]]["height"],
    )
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)
    painted = page.evaluate(f"getComputedStyle({LARGE}.querySelector('rect.b')).fill")
    assert painted not in ("none", "rgb(0, 0, 0)")
    assert page.evaluate(f"{LARGE}.getBoundingClientRect().height") > 200
    _assert_calm(page, server)


def test_a_picture_has_words_for_those_who_do_not_see_it(server: Any, page: Any) -> None:
    _show(page, server)
    _choose(page, "echo@1")
    label = page.evaluate(f"{LARGE}.getAttribute('aria-label')")
    assert page.evaluate(f"{LARGE}.getAttribute('role')") == "img"
    assert "lower bound of" in label
    page.evaluate("document.querySelector('#plan-more').open = true")
    words = page.text("#plan-words")
    assert words
    assert words in label
    _assert_calm(page, server)


def test_a_model_row_shows_its_plan_and_a_click_makes_it_large(server: Any, page: Any) -> None:
    _show(page, server)
    page.evaluate("document.querySelector('#models').scrollIntoView()")
    page.wait(f"document.querySelector({json.dumps(THUMB)}) !== null")
    small = page.evaluate(
        f"(() => {{ const it = document.querySelector({json.dumps(THUMB)});"
        " const box = it.querySelector('rect.b').getBoundingClientRect();"
        " return [it.getBoundingClientRect().width, box.width, box.height]; })()"
    )
    assert min(small) > 3
    _choose(page, "cnn@1")
    page.click("button.thumb[data-key^='plan echo@1 ']")
    page.wait(f"{LARGE}.getAttribute('aria-label').includes('Memory plan of echo@1')")
    assert page.evaluate(
        "document.querySelector(\"button.thumb[data-key^='plan echo@1 ']\").getAttribute('aria-pressed')"
    ) == "true"  # fmt: skip
    _assert_calm(page, server)


def test_the_mouse_over_a_buffer_says_its_size_place_and_life(server: Any, page: Any) -> None:
    _show(page, server)
    _choose(page, "echo@1")
    page.evaluate("document.querySelector('#plan-stage').scrollIntoView({ block: 'center' })")
    place = _box(page, LARGE, "x")
    page.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    page.wait("document.querySelector('#plan-fact').innerText.startsWith('x: ')")
    assert "at byte" in page.text("#plan-fact")
    _assert_calm(page, server)


def test_plans_are_read_when_they_come_into_view_and_once(server: Any, page: Any) -> None:
    """A server of many models is not asked for what nobody looks at."""
    page.open(f"{server.base}/", height=120)
    page.wait("document.querySelectorAll('#models tr').length === 3")
    page.wait("document.querySelector('#plan-choice option') !== null")
    assert [address for address in page.addresses if "plan.svg" in address] == []
    page.evaluate("document.querySelector('#models').scrollIntoView()")
    page.wait(f"document.querySelector({json.dumps(THUMB)}) !== null")
    page.evaluate("window.kept = document.querySelector('#models tr'); document.querySelector('#plan-stage')")
    server.echo(1.0)
    page.wait("!window.kept.isConnected")  # the table was made again
    page.wait(f"document.querySelector({json.dumps(THUMB)}) !== null")
    asked = [address for address in page.addresses if address.endswith("/echo/versions/1/plan.svg")]
    assert len(asked) == 1
    _assert_calm(page, server)


def test_a_python_class_says_that_it_has_no_plan(server: Any, page: Any) -> None:
    _show(page, server)
    assert "no plan: a Python class" in page.text("#models")
    assert "scale@1" not in page.evaluate("document.querySelector('#plan-choice').innerText")
    status, _, problem = server.get("/api/v1/models/scale/versions/1/plan.svg")
    assert (status, problem["code"]) == (404, "validation.version_unplanned")


def test_a_refused_picture_is_said_in_its_place(server: Any, page: Any) -> None:
    """Never an empty picture."""
    refusal = {"detail": "there is no picture of the memory plan of echo@1: no space left"}
    page.command("Page.addScriptToEvaluateOnNewDocument", source=f"""
      const asked = window.fetch;
      window.fetch = async (path, options) => String(path).endsWith("plan.svg")
        ? new Response({json.dumps(json.dumps(refusal))}, {{ status: 404 }}) : asked(path, options);
    """)  # fmt: skip
    _show(page, server)
    page.evaluate("document.querySelector('#plan-choice').scrollIntoView()")
    page.wait("document.querySelector('#plan-stage').innerText.includes('no space left')")
    page.evaluate("document.querySelector('#models').scrollIntoView()")
    page.wait("document.querySelector('#models').innerText.includes('no picture: there is no picture')")
    assert page.evaluate("document.querySelectorAll('button.thumb').length") == 0
    _assert_calm(page, server)


def test_a_plan_of_5000_buffers_is_drawn_and_says_what_is_drawn_together(server: Any, page: Any) -> None:
    buffers = [
        Buffer(name=f"layer {i}", size_bytes=256 << (i % 9), first=i, last=i + i % 7) for i in range(5000)
    ]
    svg = render_svg(MemoryPlanner().plan(buffers), title="Memory plan of echo@1", most_boxes=SERVED_BOXES)
    page.command("Page.addScriptToEvaluateOnNewDocument", source=f"""
      const asked = window.fetch, svg = {json.dumps(svg)};
      window.fetch = async (path, options) => String(path).endsWith("/echo/versions/1/plan.svg")
        ? new Response(svg) : asked(path, options);
    """)  # fmt: skip
    _show(page, server)
    _choose(page, "echo@1")
    drawn = (
        f"[...{LARGE}.querySelectorAll('g rect.b')].filter((one) => one.getBoundingClientRect().height > 0)"
    )
    assert page.evaluate(f"{drawn}.length") == SERVED_BOXES
    assert page.evaluate(f"{LARGE}.querySelector('path.rest').getBoundingClientRect().width") > 500
    assert "4000 of them together in grey" in page.text("#plan-stage")
    _assert_calm(page, server)


def test_only_the_drawing_of_a_picture_reaches_the_page(server: Any, page: Any) -> None:
    """X-58: elements and attributes that could run, load or restyle are left behind, names stay names."""
    page.command("Page.addScriptToEvaluateOnNewDocument", source=f"""
      const asked = window.fetch;
      window.fetch = async (path, options) => String(path).endsWith("plan.svg")
        ? new Response({json.dumps(HOSTILE)}) : asked(path, options);
    """)  # fmt: skip
    _show(page, server)
    page.evaluate("document.querySelector('#plan-choice').scrollIntoView()")
    page.wait(f"{LARGE} !== null")
    tags = page.evaluate(f"[...{LARGE}.querySelectorAll('*')].map((one) => one.localName)")
    assert tags == ["g", "title", "rect"]
    names = page.evaluate(
        f"[...new Set([...{LARGE}.querySelectorAll('*')].flatMap((one) => one.getAttributeNames()))].sort()"
    )
    assert names == ["class", "fill", "height", "width", "x", "y"]
    assert page.evaluate(f"{LARGE}.querySelector('title').textContent").startswith(NASTY)
    page.evaluate(f"{LARGE}.querySelector('g').dispatchEvent(new MouseEvent('click', {{ bubbles: true }}))")
    assert page.evaluate("window.stung === undefined")
    assert page.evaluate("document.querySelectorAll('main script, main img').length") == 0
    assert all("Content Security Policy" in complaint for complaint in page.complaints)
    assert [address for address in page.addresses if address.endswith("/x")] == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_picture_by_itself_is_drawn_in_its_own_style_and_runs_nothing(
    server: Any, page: Any, dark: bool
) -> None:
    """The policy of the answer lets the style of the picture through, or everything would be black."""
    page.open(f"{server.base}/api/v1/models/cnn/versions/1/plan.svg", dark=dark)
    assert page.evaluate("document.documentElement.localName") == "svg"
    paper = page.evaluate("getComputedStyle(document.querySelector('.paper')).fill")
    assert paper == ("rgb(20, 24, 31)" if dark else "rgb(251, 250, 248)")
    assert page.evaluate("document.querySelector('rect.b').getBoundingClientRect().width") > 5
    assert page.complaints == []


@pytest.mark.slow
def test_a_pipeline_shows_the_plans_of_its_models(
    start_server: Any, repository: Path, page: Any, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    for name in ("echo", "cnn", "scale"):
        shutil.copytree(repository / name, models / name)
    (models / "twice" / "1").mkdir(parents=True)
    stages = 'stages = [{model = "echo", version = "1"}, {model = "late", version = "1"}]\n'
    (models / "twice" / "1" / "pipeline.toml").write_text(stages)
    (models / "late" / "1").mkdir(parents=True)
    (models / "late" / "1" / "model.py").write_text(LATE)
    (models / "late" / "1" / "version.toml").write_text('entry = "model.py:Late"\n')
    server = start_server("--load", "twice", models=models)
    server.wait_ready()
    page.open(f"{server.base}/", height=120)
    page.wait("document.querySelector('#health').innerText === 'ready'")
    page.wait("document.querySelector('#plan-choice').textContent.includes('twice@1')")
    page.evaluate("document.querySelector('#plan-choice').dispatchEvent(new Event('change'))")
    page.wait(f"{LARGE} !== null && {LARGE}.getAttribute('aria-label').includes('Memory plan of echo@1')")
    page.resize(1280, 1000)
    page.evaluate("document.querySelector('#models').scrollIntoView()")
    page.wait("document.querySelector(\"button.thumb[data-key^='plan twice@1 '] rect.b\") !== null")
    assert "late@1: a Python class has no memory plan" in page.text("#models")
    page.click("button.thumb[data-key^='plan twice@1 ']")
    page.wait(f"{LARGE} !== null && {LARGE}.getAttribute('aria-label').includes('Memory plan of echo@1')")
    assert "twice@1: echo@1" in page.evaluate("document.querySelector('#plan-choice').innerText")
    _assert_calm(page, server)
