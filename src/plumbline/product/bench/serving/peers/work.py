"""What every server runs: the null model, and texts to vectors by our own encoder. Only serving differs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

__all__ = ["Work", "address", "open_work"]


class Work:
    """Both models in this process."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder

    def echo(self, x: np.ndarray) -> np.ndarray:
        """The null model: float32 `[1, 16]` to the same numbers, in memory of their own."""
        return x.copy()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Texts to float32 `[texts, 384]`."""
        return cast(np.ndarray, self._encoder.encode(list(texts)))


def open_work() -> Work:
    """Open the encoder that lies in the folder of `PLUMB_BENCH_ENCODER`; it was compiled before."""
    from plumbline.contracts.versions import VersionSettings
    from plumbline.product.compose import open_prepared, prepare
    from plumbline.product.sessions import version_options

    folder = Path(os.environ["PLUMB_BENCH_ENCODER"])
    options = replace(version_options(VersionSettings()), contexts=1)
    encoder: Any = open_prepared(prepare(folder, options), folder, options)
    encoder.encode(["warm"])
    return Work(encoder)


def address() -> int:
    """The port to listen on, from `PLUMB_BENCH_PORT`."""
    return int(os.environ["PLUMB_BENCH_PORT"])
