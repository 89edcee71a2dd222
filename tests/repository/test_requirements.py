"""Every requirement of the scheduling and serving floors is cited by a test, or its absence is stated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import layers

RANGES = (
    *("L3-01..L3-07", "L3-14..L3-18", "L3-21"),
    *("L4-01..L4-34", "L4-37..L4-58", "L4-60..L4-68", "L4-72..L4-74"),
    *("X-26..X-47", "X-54..X-58", "X-60", "X-62..X-64", "X-67..X-72", "X-74", "X-80"),
)
ABSENT = {
    "L3-01": "prefill, decode, cache and token streams come with token models; the rest of the layer is here",
    "L3-14": "tokens are counted when there are token models; requests are counted and timed now",
}
"""What no test can prove yet, and why. The README lists the same."""

CITED = re.compile(r"\b([LX]\d?)-(\d\d)(?:(?:\.\.| to )(?:[LX]\d?-)?(\d\d))?")
TESTS = layers.ROOT / "tests"
HOLDS_TESTS = re.compile(r"^(?: *(?:async )?def test_|class Test\w+\(\w*Conformance)", re.MULTILINE)
"""Tests of its own, or a shipped suite."""


def spelled_out(text: str) -> Iterator[str]:
    """Requirement ids of a text, ranges spelled out."""
    for layer, first, last in CITED.findall(text):
        yield from (f"{layer}-{number:02}" for number in range(int(first), int(last or first) + 1))


WANTED = tuple(spelled_out(" ".join(RANGES)))


def cited_by(folder: Path) -> dict[str, list[str]]:
    """Requirement id -> test files below `folder` that cite it and hold tests. This file is none of them."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if path != Path(__file__) and HOLDS_TESTS.search(text):
            for requirement in set(spelled_out(text)):
                found.setdefault(requirement, []).append(str(path.relative_to(folder)))
    return found


@pytest.fixture(scope="module")
def citations() -> dict[str, list[str]]:
    return cited_by(TESTS)


@pytest.mark.parametrize("requirement", [wanted for wanted in WANTED if wanted not in ABSENT])
def test_a_requirement_is_cited_by_a_test(requirement: str, citations: dict[str, list[str]]) -> None:
    assert citations.get(requirement), f"no test says that it proves {requirement}"


def test_what_is_absent_is_still_absent_and_the_readme_says_so(citations: dict[str, list[str]]) -> None:
    """An exception that is no longer needed must go."""
    assert set(ABSENT) <= set(WANTED)
    assert {name: citations[name] for name in ABSENT if name in citations} == {}
    readme = (layers.ROOT / "README.md").read_text(encoding="utf-8")
    section = readme[readme.index("## Limits") :]
    assert [name for name in ABSENT if name not in section] == []


def test_a_requirement_that_nobody_cites_is_found(tmp_path: Path) -> None:
    """The test above can fail."""
    (tmp_path / "test_some.py").write_text('"""L4-01..L4-03."""\ndef test_it(): ...\n', encoding="utf-8")
    (tmp_path / "test_none.py").write_text('"""L4-09: no test here."""\n', encoding="utf-8")
    assert set(cited_by(tmp_path)) == {"L4-01", "L4-02", "L4-03"}
