"""Small JSON tensors take a shorter way than large ones, to the same bits and the same refusals (L4-26)."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from plumbline.contracts.inference import InferenceResult, InferenceTiming, VersionRef
from plumbline.contracts.requests import RequestId
from plumbline.serving.open_inference.infer_response import encode_infer_response
from plumbline.serving.open_inference.refusals import OutputNotJson, TensorRefused
from plumbline.serving.open_inference.tensors import array_from_values
from plumbline.testing.gateways import FakeModels

LEAST_INFINITE = {"FP16": 65520.0, "FP32": 2.0**128 - 2.0**103}
MANY = 200


@pytest.mark.parametrize(("datatype", "bound"), LEAST_INFINITE.items())
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("count", [1, 3, MANY])
def test_a_value_is_refused_exactly_when_its_datatype_rounds_it_to_infinity(datatype, bound, sign, count):
    largest = [0.0] * (count - 1) + [sign * math.nextafter(bound, 0)]
    assert np.isfinite(array_from_values("x", datatype, [count], largest)).all()
    with pytest.raises(TensorRefused, match="beyond the range"):
        array_from_values("x", datatype, [count], [0.0] * (count - 1) + [sign * bound])


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_few_values_have_the_bits_of_many(datatype):
    drawn = np.random.default_rng(5)
    values = (drawn.standard_normal(MANY) * 10.0 ** drawn.integers(-50, 4, MANY)).tolist()
    few = np.concatenate(
        [array_from_values("x", datatype, [2, 2], values[at : at + 4]).ravel() for at in range(0, MANY, 4)]
    )
    assert few.tobytes() == array_from_values("x", datatype, [MANY], values).tobytes()
    assert array_from_values("x", datatype, [0, 3], []).shape == (0, 3)


PLAIN = SimpleNamespace(outputs={}, binary_outputs=False, client_id="")


def encoded(array):
    ref, timing = VersionRef(model="echo", version="1"), InferenceTiming()
    result = InferenceResult(id=RequestId("r"), served_by=ref, outputs={"y": array}, timing=timing)
    return encode_infer_response(PLAIN, result, FakeModels()).body


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("count", [2, MANY])
def test_an_output_that_is_not_finite_is_refused_whatever_its_size(bad, count):
    for values in ([bad] + [1.0] * (count - 1), [math.inf, -math.inf] + [0.0] * (count - 2)):
        with pytest.raises(OutputNotJson, match="not finite"):
            encoded(np.array(values, np.float32))


def test_finite_values_whose_sum_is_not_finite_are_written():
    assert b"1.7e308,1.7e308" in encoded(np.array([1.7e308, 1.7e308]))
