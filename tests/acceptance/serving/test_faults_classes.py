"""Python classes that misbehave, in a real server: each fault is the request's alone (X-31, L4-72)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CLASS = '''
import sys

import numpy as np


class Odd:
    """Declares no outputs, so any are given; `what` chooses."""

    inputs = {"what": ("INT64", ())}

    def run(self, inputs, parameters):
        what = int(inputs["what"])
        if what == 1:
            return None
        if what == 2:
            return {"y": np.zeros((1,) * 40, np.float32)}
        if what == 3:
            return {"\\ud800": np.zeros(1, np.float32)}
        if what == 4:
            return {1: np.zeros(1, np.float32)}
        if what == 5:
            return {"y": np.zeros(2, np.complex64)}
        if what == 6:
            sys.exit(3)
        if what == 7:
            return {}
        return {"y": np.arange(6, dtype=np.float32).reshape(2, 3).T, "z": np.array([b"a"], object)}
'''


@pytest.fixture(scope="module")
def odd(start_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    models: Path = tmp_path_factory.mktemp("odd")
    place = models / "odd" / "1"
    place.mkdir(parents=True)
    (place / "model.py").write_text(CLASS)
    (place / "version.toml").write_text('entry = "model.py:Odd"\n')
    server = start_server(models=models)
    server.wait_ready()
    return server


def ask(server: Any, what: int) -> tuple[int, Any]:
    tensor = {"name": "what", "shape": [], "datatype": "INT64", "data": [what]}
    status, _, document = server.post("/v2/models/odd/infer", {"inputs": [tensor]})
    return status, document


def test_a_class_that_declares_no_outputs_gives_any(odd: Any) -> None:
    status, document = ask(odd, 0)
    assert status == 200, document
    first, second = document["outputs"]
    assert (first["name"], first["shape"], first["data"]) == ("y", [3, 2], [0.0, 3.0, 1.0, 4.0, 2.0, 5.0])
    assert (second["datatype"], second["data"]) == ("BYTES", ["a"])
    assert ask(odd, 7) == (200, {"model_name": "odd", "model_version": "1", "outputs": []})


@pytest.mark.parametrize("what", [1, 2, 3, 4, 5, 6])
def test_garbage_of_a_class_fails_its_request_and_keeps_its_worker(odd: Any, what: int) -> None:
    before = odd.workers()[0]["pid"]
    status, problem = ask(odd, what)
    assert status in range(400, 600)
    assert problem["code"].split(".")[0] in {"decoding", "execution", "validation"}, problem
    assert ask(odd, 0)[0] == 200
    assert odd.workers()[0]["pid"] == before
