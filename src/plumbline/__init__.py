"""Plumbline: one AI runtime, from a model file to an accountable outcome.

    model = plumbline.load("model.onnx", threads=2, symbols={"batch": 8})
    outputs = model.run({"input": array})

Heavy modules load on first use; importing this package is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plumbline.engine.model import Model
    from plumbline.product.compose import load

__all__ = ["Model", "__version__", "load"]

__version__ = "0.1.0"

_LAZY = {"load": "plumbline.product.compose", "Model": "plumbline.engine.model"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'plumbline' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
