"""From options to a loaded model."""

from __future__ import annotations

import dataclasses

from plumbline.engine.model import Model
from plumbline.product.compose import LoadOptions, load

__all__ = ["load_model"]


def load_model(source: str, options: LoadOptions) -> Model:
    """`plumbline.load` with options that were put together already."""
    return load(source, **{f.name: getattr(options, f.name) for f in dataclasses.fields(options)})
