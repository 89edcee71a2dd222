"""Parameters of `plumbline.load` that cannot be used, and what an uncached load leaves behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import plumbline
from plumbline.engine.model import ModelClosed
from plumbline.product.compose import LoadOptionRefused

MODEL = onnx.parser.parse_model(
    """<ir_version: 8, opset_import: ["": 17]>
    tiny (float[2, 3] x) => (float[2, 3] y) { y = Relu(x) }"""
).SerializeToString()


@pytest.mark.parametrize("option", ["threads", "contexts", "streams"])
@pytest.mark.parametrize("value", [0, -1, "2", 1.5, True])
def test_count_that_is_no_whole_number_from_one_on_is_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(LoadOptionRefused, match=option):
        plumbline.load(MODEL, **{option: value})  # type: ignore[arg-type]


def test_more_threads_than_a_device_has_are_refused_before_anything_is_built() -> None:
    with pytest.raises(LoadOptionRefused, match="threads = 257: at most 256"):
        plumbline.load(MODEL, threads=257)


def test_unknown_target_is_refused_with_the_choices() -> None:
    with pytest.raises(LoadOptionRefused, match="avx512"):
        plumbline.load(MODEL, target="z80")


def test_uncached_executable_goes_when_its_model_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path))
    model = plumbline.load(MODEL, use_cache=False)
    x = np.array([[-1, 2, -3], [4, -5, 6]], np.float32)
    np.testing.assert_array_equal(model.run({"x": x})["y"], np.maximum(x, 0))
    assert list((tmp_path / "executables").iterdir())
    model.close()
    assert not list((tmp_path / "executables").iterdir())
    with pytest.raises(ModelClosed):
        model.run({"x": x})
