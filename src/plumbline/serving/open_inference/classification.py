"""The classification extension: the top classes of an output instead of its values."""

from __future__ import annotations

import numpy as np

from plumbline.serving.open_inference.byte_strings import object_array
from plumbline.serving.open_inference.refusals import ExtensionRefused

__all__ = ["classify"]


def classify(name: str, output: np.ndarray, classes: int, batched: bool) -> np.ndarray:
    """The `classes` largest values with their indices, each as the text `value:index`, largest first.

    Equal values come in order of their index; NaN comes last.

    Args:
        name: of the output.
        output: [n] or [rows, n] and more axes, which count as one.
        classes: how many, at most n.
        batched: whether the first axis counts rows.

    Returns:
        `BYTES` [min(classes, n)], or [rows, min(classes, n)].

    Raises:
        ExtensionRefused: the output is not numeric.
    """
    if output.dtype == object or output.dtype == np.bool_:
        raise ExtensionRefused(extension="classification", reason=f"output {name!r} is not numeric")
    rows = output.reshape(output.shape[0], -1) if batched and output.ndim > 1 else output.reshape(1, -1)
    top = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :classes]
    texts = [
        f"{row[index]:f}:{index}".encode()
        for row, chosen in zip(rows, top, strict=True)
        for index in chosen.tolist()
    ]
    shape = top.shape if batched and output.ndim > 1 else top.shape[1:]
    return object_array(texts, shape)
