"""Numpy twins of the signal operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.contracts.tensors import DType
from plumbline.kernels.matrix.reference import widen

__all__ = ["reference_dft", "reference_mel", "reference_stft"]

Arrays = Sequence[np.ndarray | None]


def _complex(array: np.ndarray) -> np.ndarray:
    return np.asarray(array[..., 0] + 1j * array[..., 1] if array.shape[-1] == 2 else array[..., 0])


def _parts(numbers: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.stack([numbers.real, numbers.imag], axis=-1).astype(dtype)


def _dtype(inputs: Arrays) -> np.dtype:
    first = inputs[0]
    return np.dtype(np.float64) if first is None else first.dtype


def reference_dft(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """numpy.fft along an axis."""
    x, axis = _complex(widen(inputs[0])), attributes["axis"]
    inverse, onesided = attributes.get("inverse", False), attributes.get("onesided", False)
    length = attributes.get("length")
    if length is None:
        length = 2 * (x.shape[axis] - 1) if inverse and onesided else x.shape[axis]
    dtype = _dtype(inputs)
    if inverse and onesided:
        return (np.fft.irfft(x, length, axis=axis)[..., None].astype(dtype),)
    if onesided:
        return (_parts(np.fft.rfft(x, length, axis=axis), dtype),)
    return (_parts((np.fft.ifft if inverse else np.fft.fft)(x, length, axis=axis), dtype),)


def reference_stft(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """numpy.fft of weighted frames."""
    x = _complex(widen(inputs[0]))
    frame, step = attributes["frame"], attributes["step"]
    window = widen(inputs[1]) if len(inputs) > 1 and inputs[1] is not None else np.ones(frame)
    count = max(0, (x.shape[1] - frame) // step + 1)
    frames = np.zeros((x.shape[0], count, frame), x.dtype)
    for i in range(count):
        frames[:, i] = x[:, i * step : i * step + frame] * window
    spectrum = np.fft.fft(frames, axis=-1)
    if attributes.get("onesided", True):
        spectrum = spectrum[..., : frame // 2 + 1]
    return (_parts(spectrum, _dtype(inputs)),)


def reference_mel(inputs: Arrays, attributes: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """Triangles between whole bins."""
    rate, lower, upper = (float(widen(x).ravel()[0]) for x in inputs[:3])
    bins, length = attributes["bins"], attributes["length"]
    low, high = (2595.0 * np.log10(1.0 + f / 700.0) for f in (lower, upper))
    mels = np.arange(bins + 2) * ((high - low) / (bins + 2)) + low
    hertz = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    edges = np.floor(hertz * (length + 1) / rate).astype(int)
    result = np.zeros((length // 2 + 1, bins))
    for i in range(bins):
        left, centre, right = edges[i : i + 3]
        for row in range(result.shape[0]):
            if centre <= row < right:
                result[row, i] = (right - row) / (right - centre)
            elif left == centre == row:
                result[row, i] = 1.0
            elif left <= row <= centre:
                result[row, i] = (row - left) / (centre - left)
    return (result.astype(DType(attributes.get("dtype") or "float32").numpy),)
