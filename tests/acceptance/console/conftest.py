"""Servers as in `tests/acceptance/serving`, and a browser."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from headless_chromium import CHROMIUM, Page, chromium

_SPEC = spec_from_file_location("served_models", Path(__file__).parents[1] / "serving" / "conftest.py")
if _SPEC is None or _SPEC.loader is None:
    raise ImportError("the servers of tests/acceptance/serving are not there")
_served = module_from_spec(_SPEC)
sys.modules[_SPEC.name] = _served
_SPEC.loader.exec_module(_served)

repository, start_server, server = _served.repository, _served.start_server, _served.server
running_servers, _servers_of_one_test = _served.running_servers, _served._servers_of_one_test


@pytest.fixture(scope="session")
def tabs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Page]]:
    """Opens tabs of one browser."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with chromium(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


@pytest.fixture
def page(tabs: Callable[[], Page]) -> Iterator[Page]:
    """A fresh tab, closed after the test."""
    opened = tabs()
    yield opened
    opened.close()
