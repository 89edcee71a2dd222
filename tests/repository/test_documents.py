"""The documents say what is true: links, feature rows, words, diagrams, public names (X-21, X-24, X-25)."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

import layers

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
PAGES = sorted([*layers.ROOT.glob("*.md"), *(layers.ROOT / "docs").rglob("*.md")])
STATES = {"works", "partly", "planned"}
REQUIREMENT = re.compile(r"\b([LX]\d?)-(\d\d)(?:(?:\.\.| to )(?:[LX]\d?-)?(\d\d))?")


def table_rows(page: Path, heading: str) -> list[list[str]]:
    """The body cells of the first table under a heading."""
    text = page.read_text(encoding="utf-8")
    section = re.split(r"^## ", text[text.index(f"## {heading}") + 3 :], flags=re.MULTILINE)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[2:]]


def without_code(text: str) -> str:
    """Markdown without fenced blocks and inline code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(layers.ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    targets = LINK.findall(without_code(page.read_text(encoding="utf-8")))
    local = [
        link.split("#")[0] for link in targets if "://" not in link and not link.startswith(("#", "mailto:"))
    ]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_every_feature_that_works_links_to_the_tests_that_prove_it(root: Path) -> None:
    """X-24: a row of the feature table counts as built only with a test behind it."""
    rows = table_rows(root / "README.md", "What works")
    assert len(rows) >= 10
    for feature, state, _, proof in rows:
        assert state in STATES, feature
        links = LINK.findall(proof)
        if state in {"works", "partly"}:
            assert links, f"{feature}: no test is linked"
        for link in links:
            path = root / link
            tests = [path] if path.is_file() else sorted(path.rglob("test_*.py"))
            assert any(holds_tests(test.read_text(encoding="utf-8")) for test in tests), f"{feature}: {link}"


def holds_tests(text: str) -> bool:
    """Whether a test file has tests of its own, or runs a shipped suite."""
    return "def test_" in text or re.search(r"^class Test\w+\(\w*Conformance", text, re.MULTILINE) is not None


def requirements_in(text: str) -> set[str]:
    """Requirement ids that a text cites, ranges spelled out: `L2-11..L2-13` is three."""
    found = set()
    for layer, first, last in REQUIREMENT.findall(text):
        found |= {f"{layer}-{number:02}" for number in range(int(first), int(last or first) + 1)}
    return found


def test_every_requirement_of_a_feature_is_cited_by_a_test_that_it_links_to(root: Path) -> None:
    """X-24: a row does not claim more than its tests say that they prove."""
    wrong = []
    for feature, _, claimed, proof in table_rows(root / "README.md", "What works"):
        paths = [root / link for link in LINK.findall(proof)]
        files = [f for path in paths for f in ([path] if path.is_file() else sorted(path.rglob("*.py")))]
        cited = requirements_in("\n".join(file.read_text(encoding="utf-8") for file in files))
        missing = requirements_in(claimed) - cited
        wrong += [(feature, requirement) for requirement in sorted(missing)]
    assert wrong == []


def test_a_range_of_requirements_is_each_of_them() -> None:
    assert requirements_in("X-09, L2-11..L2-13 and X-20..22") == {
        *("L2-11", "L2-12", "L2-13"),
        *("X-09", "X-20", "X-21", "X-22"),
    }


def test_companion_documents_exist(root: Path) -> None:
    """X-21: vision, roadmap, terminology, contribution rules with the constraints for agents."""
    for name in (
        "docs/OUTLOOK.md",
        "docs/ROADMAP.md",
        "docs/TERMINOLOGY.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ):
        assert (root / name).stat().st_size > 400, name
    assert "## Constraints for agents" in (root / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_every_term_of_the_glossary_exists_in_code_or_is_marked_planned(root: Path) -> None:
    """X-21: terms used in code match the glossary."""
    rows = table_rows(root / "docs" / "TERMINOLOGY.md", "Words")
    assert len(rows) >= 20
    wrong = []
    for term, _, place in rows:
        if place != "planned" and not all(is_in_code(name) for name in re.findall(r"`([^`]+)`", place)):
            wrong.append((term, place))
    assert wrong == []


def is_in_code(name: str) -> bool:
    """Whether `plumbline.<name>` can be imported: a package, a module, or a name of one."""
    full = f"plumbline.{name}"
    try:
        importlib.import_module(full)
    except ModuleNotFoundError:
        module, _, attribute = full.rpartition(".")
        try:
            return hasattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError:
            return False
    return True


def test_every_extension_point_has_a_contract_and_a_suite_and_every_suite_is_one(root: Path) -> None:
    """docs/reference/extending.md; X-67..X-72."""
    text = (root / "docs" / "reference" / "extending.md").read_text(encoding="utf-8")
    rows = [re.findall(r"`([\w.]+)`", line)[:2] for line in text.splitlines() if line.startswith("| a")]
    assert len(rows) >= 10
    assert [row for row in rows if not (is_in_code(row[0]) and is_in_code(f"testing.{row[1]}"))] == []
    shipped = {
        f"{path.stem}.{name}"
        for path in (layers.SOURCE / "testing").glob("*.py")
        for name in re.findall(r"^class (\w+Conformance)\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert shipped == {suite for _, suite in rows}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(layers.ROOT)))
def test_every_diagram_has_a_text_alternative(page: Path) -> None:
    """X-25: an image has a description, a diagram block is followed or preceded by its meaning in words."""
    text = page.read_text(encoding="utf-8")
    assert [alt for alt in re.findall(r"!\[([^\]]*)\]", without_code(text)) if len(alt) < 10] == []
    diagrams = len(re.findall(r"^```(?:mermaid|diagram)", text, flags=re.MULTILINE))
    assert text.count("*In words:*") >= diagrams


def test_every_public_name_of_the_package_has_a_docstring_and_a_place_in_the_reference(root: Path) -> None:
    """What `plumbline` exports is what the reference documents."""
    package = importlib.import_module("plumbline")
    public = list(getattr(package, "__all__", []))
    page = (root / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    assert public, "plumbline.__all__ is the public surface"
    assert [name for name in public if f"`{name}" not in page and f"plumbline.{name}" not in page] == []
    objects = {name: getattr(package, name) for name in public}
    silent = [
        name
        for name, value in objects.items()
        if (inspect.isclass(value) or inspect.isfunction(value)) and not inspect.getdoc(value)
    ]
    assert silent == []


def test_every_decision_says_context_choice_refused_options_and_how_we_will_know(root: Path) -> None:
    pages = sorted((root / "docs" / "decisions").glob("[0-9]*.md"))
    numbers = [page.name[:4] for page in pages]
    assert len(pages) >= 4
    assert len(set(numbers)) == len(numbers)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for heading in ("## Context", "## Choice", "## Refused options", "## How we will know"):
            assert heading in text, f"{page.name}: {heading}"


def test_no_page_claims_a_speed_without_a_file_of_measurements(root: Path) -> None:
    """style.md, Habits: a claim of speed without its file does not go in the README."""
    text = (root / "README.md").read_text(encoding="utf-8")
    claims = re.findall(r"^.*\b\d+(?:\.\d+)?x\b.*$", text, flags=re.MULTILINE)
    assert [line for line in claims if "docs/benchmarks" not in line] == []
