"""`BF16` and `UINT16` are both held as uint16: only the declared datatype tells them apart."""

from __future__ import annotations

from collections.abc import Iterable

from plumbline.serving.open_inference.refusals import TensorRefused
from plumbline.serving.ports import ModelDirectory

__all__ = ["SIXTEEN_BITS", "verify_sixteen_bits"]

SIXTEEN_BITS = frozenset({"BF16", "UINT16"})


def verify_sixteen_bits(
    declared: Iterable[tuple[str, str]], models: ModelDirectory, model: str, version: str | None
) -> None:
    """Refuse an input whose datatype is the other of the two; everything else the worker checks.

    Args:
        declared: name and datatype of the inputs that are one of the two.
        models: knows the interface.
        model: asked for.
        version: asked for, or None.

    Raises:
        TensorRefused: naming both datatypes.
        PlumblineError: the model is unknown or not ready.
    """
    wanted = {spec.name: spec.datatype for spec in models.metadata(model, version).inputs}
    for name, datatype in declared:
        expected = wanted.get(name, datatype)
        if expected in SIXTEEN_BITS and expected != datatype:
            raise TensorRefused(tensor=name, reason=f"is {datatype}, the model takes {expected}")
