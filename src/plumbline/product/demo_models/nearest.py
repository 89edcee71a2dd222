"""A Python class as a version: the documented names of Python whose docstrings are nearest to a vector.

This file is copied into the repository as it is. It needs numpy and the two files beside it.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

COUNT = 3
"""Answers to a question."""


class Nearest:
    """Vectors of length one in, nearest passages out, best first."""

    inputs = {"embeddings": ("FP32", (-1, 384))}  # noqa: RUF012
    outputs = {  # noqa: RUF012
        "names": ("BYTES", (-1, COUNT)),
        "passages": ("BYTES", (-1, COUNT)),
        "scores": ("FP32", (-1, COUNT)),
    }
    max_batch = 32

    def setup(self, context: Any) -> None:
        """Read vectors and passages from the folder of the version."""
        self.vectors = np.load(context.folder / "vectors.npy", allow_pickle=False)
        found = json.loads((context.folder / "passages.json").read_text(encoding="utf-8"))
        self.names = np.array([name.encode() for name, _ in found], object)
        self.passages = np.array([text.encode() for _, text in found], object)

    def run(self, inputs: dict[str, np.ndarray], parameters: dict[str, Any]) -> dict[str, np.ndarray]:
        """One question at a time: a product of the whole batch would sum in another order."""
        places, scores = [], []
        for question in inputs["embeddings"]:
            cosines = self.vectors @ question
            best = np.argsort(-cosines, kind="stable")[:COUNT]
            places.append(best)
            scores.append(cosines[best])
        chosen = np.array(places, np.int64).reshape(-1, COUNT)
        return {
            "names": self.names[chosen],
            "passages": self.passages[chosen],
            "scores": np.array(scores, np.float32).reshape(-1, COUNT),
        }
