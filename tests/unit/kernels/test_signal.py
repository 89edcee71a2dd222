"""Signal operations against their numpy twins (L1-02..L1-05)."""

from __future__ import annotations

import numpy as np
import pytest

from plumbline.kernels.contract import AttributeRefused, DTypeRefused, ShapeRefused
from plumbline.kernels.emit.target import AVX2
from plumbline.kernels.signal.contract import CONTRACTS
from plumbline.testing.kernels import run_native, verify_operation

OPERATIONS = {c.name: c for c in CONTRACTS}
rng = np.random.default_rng(23)


def floats(*shape: int, dtype: str = "float32") -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 12, 64, 100])
def test_transforms_of_any_length_agree_with_numpy(length: int) -> None:
    for inverse in (False, True):
        for parts in (1, 2):
            verify_operation(OPERATIONS["dft"], [floats(3, length, parts)], {"axis": 1, "inverse": inverse})
    verify_operation(OPERATIONS["dft"], [floats(3, length, 1)], {"axis": 1, "onesided": True})


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("length", [None, 4, 5, 9, 16])
def test_transforms_along_any_axis_pad_or_cut(axis: int, length: int | None) -> None:
    x = floats(5, 6, 7, 2)
    for inverse in (False, True):
        verify_operation(OPERATIONS["dft"], [x], {"axis": axis, "length": length, "inverse": inverse})
    verify_operation(OPERATIONS["dft"], [x[..., :1]], {"axis": axis, "length": length, "onesided": True})


@pytest.mark.parametrize("length", [None, 8, 9, 16])
def test_one_sided_inverse_agrees_with_numpy(length: int | None) -> None:
    bins = 6 if length is None else length // 2 + 1
    x = floats(3, bins, 2)
    x[:, 0, 1] = x[:, -1, 1] = 0.0
    attributes = {"axis": 1, "length": length, "inverse": True, "onesided": True}
    verify_operation(OPERATIONS["dft"], [x], attributes)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_transforms_of_other_float_types_agree_with_numpy(dtype: str) -> None:
    for length in (16, 15):
        verify_operation(OPERATIONS["dft"], [floats(2, length, 2, dtype=dtype)], {"axis": 1})


def test_transforms_with_symbolic_rows_agree_with_numpy() -> None:
    verify_operation(OPERATIONS["dft"], [floats(3, 32, 2)], {"axis": 1}, symbolic={(0, 0): "b"}, target=AVX2)
    attributes = {"axis": 1, "length": 16}
    for extent in (0, 5, 20):
        verify_operation(OPERATIONS["dft"], [floats(2, extent, 2)], attributes, symbolic={(0, 1): "n"})


@pytest.mark.parametrize("frame", [8, 12])
def test_short_time_spectra_agree_with_numpy(frame: int) -> None:
    for parts, onesided in ((1, True), (1, False), (2, False)):
        signal, window = floats(2, 50, parts), floats(frame)
        for operands in ([signal, window], [signal], [signal[:, :3], window]):
            verify_operation(OPERATIONS["stft"], operands, {"frame": frame, "step": 5, "onesided": onesided})
    verify_operation(
        OPERATIONS["stft"],
        [floats(2, 50, 1), floats(frame)],
        {"frame": frame, "step": 3},
        symbolic={(0, 1): "n"},
    )


@pytest.mark.parametrize("bins", [1, 8, 40])
def test_mel_filters_agree_with_numpy(bins: int) -> None:
    scalars = [np.array(8192, np.int64), np.array(0.0, np.float32), np.array(4000.0, np.float32)]
    for dtype in ("float32", "float64"):
        attributes = {"bins": bins, "length": 64, "dtype": dtype}
        verify_operation(OPERATIONS["mel_weight_matrix"], scalars, attributes)


def test_signals_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeRefused):
        run_native(OPERATIONS["dft"], [floats(2, 4, 3)], {"axis": 1})
    with pytest.raises(AttributeRefused):
        run_native(OPERATIONS["dft"], [floats(2, 4, 2)], {"axis": 1, "length": 1 << 20})
    with pytest.raises(AttributeRefused):
        run_native(OPERATIONS["dft"], [floats(2, 4, 2)], {"axis": 1}, symbolic={(0, 1): "n"})
    with pytest.raises(DTypeRefused):
        run_native(OPERATIONS["dft"], [np.zeros((2, 4, 2), np.int32)], {"axis": 1})


@pytest.mark.parametrize("length", [10, 97, 256, 1000])
@pytest.mark.parametrize("inverse", [False, True])
def test_float32_transforms_are_float64_transforms_rounded_once(length: int, inverse: bool) -> None:
    """Also where large terms cancel: the distance is half a place of each number, not of the largest."""
    x = (np.random.default_rng(length).normal(size=(3, length, 2)) * 1000).astype(np.float32)
    x[0] = np.arange(length)[:, None]
    numbers = x[..., 0].astype(np.float64) + 1j * x[..., 1]
    exact = (np.fft.ifft if inverse else np.fft.fft)(numbers, axis=1)
    expected = np.stack([exact.real, exact.imag], axis=-1)
    (ours,) = run_native(OPERATIONS["dft"], [x], {"axis": 1, "inverse": inverse})
    noise = 1e-12 * np.abs(numbers).sum() / (length if inverse else 1)
    np.testing.assert_allclose(ours, expected, rtol=2.0**-23, atol=noise)
