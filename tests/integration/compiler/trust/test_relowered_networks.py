"""Whole networks from elsewhere compute the same bits after their code was made here."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

import plumbline
from plumbline.compiler.planning.program_text import ProgramRefused
from plumbline.product.bench.light import light_input, write_light


@pytest.fixture(params=["squeezenet", "shufflenet"])
def foreign(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """An artifact with blocked layouts and every kind of packed weights, its input and its outputs."""
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path / "elsewhere"))
    data = write_light(request.param, seed=3)
    label, shape = light_input(onnx.load_from_string(data))
    image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    with plumbline.load(data) as model:
        assert model.folder is not None
        np.savez(tmp_path / "arrays.npz", **{"in": image}, **model.run({label: image}))
        shutil.copytree(model.folder, tmp_path / "artifact")
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "artifact", tmp_path / "arrays.npz"


def test_network_from_elsewhere_computes_the_same_bits(foreign: tuple[Path, Path]) -> None:
    artifact, arrays = foreign
    expected = dict(np.load(arrays))
    image = expected.pop("in")
    with plumbline.load(artifact) as model:
        (label,) = (i.name for i in model.inputs)
        for name, array in model.run({label: image}).items():
            np.testing.assert_array_equal(array, expected[name])


def test_packed_weights_that_claim_other_extents_are_refused(foreign: tuple[Path, Path]) -> None:
    """A kernel would read past its weights: the layout must fit the shape and the space."""
    artifact, _ = foreign
    program = artifact / "program.json"
    text = program.read_text(encoding="utf-8")
    packings = sorted(set(re.findall(r"@packed\((\w+),", text)))
    assert packings
    for scheme in packings:
        changed = re.sub(rf"@packed\({scheme},(\d+),", rf"@packed({scheme},9\g<1>,", text, count=1)
        program.write_text(changed, encoding="utf-8")
        assert json.loads(changed) != json.loads(text)
        with pytest.raises(ProgramRefused):
            plumbline.load(artifact)
