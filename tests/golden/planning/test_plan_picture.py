"""The plan document and the picture, byte for byte."""

from __future__ import annotations

import json
import math
import os
import random
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from plumbline.compiler.planning.lifetimes import Buffer
from plumbline.compiler.planning.memory import (
    AllocationPlan,
    InvalidBufferError,
    MemoryBudgetError,
    MemoryPlanner,
    verify_budget,
)
from plumbline.compiler.planning.picture import format_bytes, plan_document, render_svg
from plumbline.compiler.planning.picture_thinning import MAX_PIECES, merged_shape, thin_out

HERE = Path(__file__).parent
STEPS = {0: "embed", 1: "project <q>", 2: "mix & add", 3: "norm"}
BUFFERS = [
    Buffer(name="tokens", size_bytes=512, first=0, last=3),
    Buffer(name="rows", size_bytes=49152, first=0, last=2),
    Buffer(name="query <1>", size_bytes=49152, first=1, last=2),
    Buffer(name="project/workspace", size_bytes=16384, first=1, last=1),
    Buffer(name="mixed", size_bytes=49152, first=2, last=3),
    Buffer(name="answer", size_bytes=1000, first=3, last=3),
]


def plan() -> AllocationPlan:
    return MemoryPlanner().plan(BUFFERS)


def matches_golden(name: str, text: str) -> bool:
    path = HERE / name
    if os.environ.get("PLUMBLINE_UPDATE_GOLDEN") == "1":
        path.write_text(text, encoding="utf-8")
    return path.read_text(encoding="utf-8") == text


def test_the_plan_document_is_unchanged() -> None:
    """L2-18, L2-20. A deliberate change needs a new schema version when a field goes or changes meaning."""
    document = plan_document(plan(), weights_bytes=1_000_000, state_bytes=4096, contexts=2, steps=STEPS)
    assert matches_golden("plan_document.json", json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    assert document["total_bytes"] == 1_000_000 + 4096 + 2 * document["peak_bytes"]


def test_the_picture_is_unchanged() -> None:
    assert matches_golden("plan_picture.svg", render_svg(plan(), title="Four <steps>", steps=STEPS))


def test_every_buffer_is_a_titled_box_and_the_picture_has_a_text_alternative() -> None:
    root = ElementTree.fromstring(render_svg(plan(), title="Four <steps>", steps=STEPS))
    svg = "{http://www.w3.org/2000/svg}"
    tips = [group.findtext(f"{svg}title") or "" for group in root.iter(f"{svg}g")]
    assert sorted(tip.split(":")[0] for tip in tips) == sorted(buffer.name for buffer in BUFFERS)
    assert any("steps 1 (project <q>) to 2 (mix & add)" in tip for tip in tips)
    assert root.findtext(f"{svg}title") == "Four <steps>"
    assert str(plan().peak_bytes) in (root.findtext(f"{svg}desc") or "")


@pytest.mark.parametrize("count", [0, 1, 2000])
def test_empty_and_large_plans_give_well_formed_pictures(count: int) -> None:
    buffers = [Buffer(name=f"v{i}", size_bytes=1024, first=i, last=i + 1) for i in range(count)]
    root = ElementTree.fromstring(render_svg(MemoryPlanner().plan(buffers)))
    assert len(list(root.iter("{http://www.w3.org/2000/svg}g"))) == count


def chain(count: int) -> AllocationPlan:
    """`count` buffers, each alive in two steps, of sizes that differ by a thousand."""
    sizes = (64, 4096, 65536)
    buffers = [Buffer(name=f"v{i}", size_bytes=sizes[i % 3], first=i, last=i + 1) for i in range(count)]
    return MemoryPlanner().plan(buffers)


def test_a_picture_of_5000_buffers_is_small_and_says_what_it_draws_together() -> None:
    text = render_svg(chain(5000), most_boxes=1000)
    root = ElementTree.fromstring(text)
    svg = "{http://www.w3.org/2000/svg}"
    assert len(text) < 600_000
    assert len(root.findall(f".//{svg}rect[@class='b']")) == 1001  # one of them explains the colours
    assert len(root.findall(f".//{svg}path[@class='rest']")) == 1
    written = " ".join(element.text or "" for element in root.iter())
    assert "5000 buffers, 4000 of them together in grey" in written
    assert "The 4000 that take the least bytes x steps, at most 64.00 KiB each" in written


def test_a_picture_that_draws_every_buffer_says_nothing_of_grey() -> None:
    text = render_svg(chain(1000), most_boxes=1000)
    assert "grey" not in text
    assert 'class="rest"' not in text


def test_what_is_drawn_first_takes_the_most_bytes_and_steps() -> None:
    shown, rest = thin_out(chain(300).placements, 100)
    assert (len(shown), len(rest)) == (100, 200)
    assert {placement.size_bytes for placement in shown} == {65536}


@pytest.mark.parametrize("count", [1, 40, 20_000])
def test_the_shape_of_the_rest_covers_every_box_in_bounded_pieces(count: int) -> None:
    """The union is drawn, however many there are; the cells are coarser then."""
    generator = random.Random(count)
    boxes = [
        (
            generator.uniform(0, 1050),
            generator.uniform(0, 510),
            generator.uniform(0, 10),
            generator.uniform(0, 10),
        )
        for _ in range(count)
    ]
    pieces = [
        tuple(int(number) for number in numbers)
        for numbers in re.findall(r"M(\d+) (\d+)h(\d+)v(\d+)h-\3z", merged_shape(boxes, 1060, 520))
    ]
    assert 0 < len(pieces) <= MAX_PIECES
    grid = np.zeros((1100, 2200), np.bool_)
    for x, y, width, height in pieces:
        grid[y : y + height, x : x + width] = True
    for x, y, width, height in boxes[:500]:
        assert grid[int(y) : math.ceil(y + height), int(x) : math.ceil(x + width)].all()


@pytest.mark.parametrize("name", ["a\x00b", "\ud800", "\ufffe", "]]>", "\x1b[31m", "<script>", "n" * 100_000])
def test_any_name_gives_a_small_picture_that_can_be_parsed(name: str) -> None:
    """Names come from model files."""
    buffer = Buffer(name=name, size_bytes=1 << 20, first=0, last=3)
    text = render_svg(MemoryPlanner().plan([buffer]), title=name[:200], steps={0: name})
    root = ElementTree.fromstring(text.encode("utf-8"))
    assert root.find(".//{http://www.w3.org/2000/svg}script") is None
    assert len(text) < 20_000


def test_boxes_stay_inside_the_frame() -> None:
    root = ElementTree.fromstring(render_svg(plan()))
    for group in root.iter("{http://www.w3.org/2000/svg}g"):
        box = group.find("{http://www.w3.org/2000/svg}rect")
        assert box is not None
        x, y, width, height = (float(box.attrib[key]) for key in ("x", "y", "width", "height"))
        assert x >= 92
        assert x + width <= 92 + 1060 + 0.02
        assert y >= 92
        assert y + height <= 92 + 520 + 0.02


def test_a_plan_over_the_budget_is_refused_with_its_parts() -> None:
    peak = plan().peak_bytes
    needed = 1000 + 24 + 3 * peak
    limits = {"weights_bytes": 1000, "state_bytes": 24, "contexts": 3}
    assert verify_budget(plan(), **limits, budget_bytes=needed) == needed
    with pytest.raises(MemoryBudgetError) as caught:
        verify_budget(plan(), **limits, budget_bytes=needed - 1)
    assert caught.value.required_bytes == needed
    assert str(peak) in str(caught.value)


@pytest.mark.parametrize(
    "buffers",
    [
        [Buffer(name="a", size_bytes=-1, first=0, last=0)],
        [Buffer(name="a", size_bytes=1, first=1, last=0)],
        [Buffer(name="a", size_bytes=1, first=-1, last=0)],
        [Buffer(name="a", size_bytes=1, first=0, last=0)] * 2,
    ],
    ids=["negative size", "dies before birth", "negative step", "same name"],
)
def test_an_impossible_buffer_is_refused(buffers: list[Buffer]) -> None:
    with pytest.raises(InvalidBufferError):
        MemoryPlanner().plan(buffers)


def test_the_digest_depends_on_every_address_and_lifetime() -> None:
    """L2-20."""
    other = [*BUFFERS[:-1], Buffer(name="answer", size_bytes=1000, first=2, last=3)]
    assert MemoryPlanner().plan(BUFFERS).digest == plan().digest
    assert MemoryPlanner().plan(other).digest != plan().digest


def test_sizes_are_written_in_binary_units() -> None:
    assert [format_bytes(n) for n in (0, 1023, 1024, 3 << 20)] == ["0 B", "1023 B", "1.00 KiB", "3.00 MiB"]
