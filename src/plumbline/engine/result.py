"""The boundary where results leave: what an instance gave is checked before anybody may trust it.

Names, element types and shapes must be those of the version's metadata (requirements L3-15, X-31). What does
not fit is a decoding error, never an execution error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.contracts.inference import Tensors
from plumbline.contracts.models import ModelMetadata, TensorSpec
from plumbline.contracts.tensors import MAX_CALL_TENSORS, MAX_TENSOR_AXES, DType
from plumbline.engine.datatypes import datatype_of, numpy_of
from plumbline.errors import DecodingError, ValidationError

__all__ = ["OutputUndecodable", "OutputUnknown", "ResultDecoder"]

MAX_NAME = 256
"""Characters of the name of an output that nobody declared."""

_Fact = tuple[str, np.dtype[Any] | None, tuple[int, ...], tuple[int | None, ...]]


@dataclass(eq=False, kw_only=True)
class OutputUndecodable(DecodingError):
    """An output is missing, unknown, no array, or of another type or shape than declared."""

    code = "decoding.output"
    owner = "engine"
    template = "output {output!r} of {version!r}: {reason}"

    version: str
    output: str
    reason: str


@dataclass(eq=False, kw_only=True)
class OutputUnknown(ValidationError):
    """A caller wants an output that the version does not have."""

    code = "validation.output_unknown"
    owner = "engine"
    template = "version {version!r} has no output {output!r}; it has: {known}"

    version: str
    output: str
    known: str


class ResultDecoder:
    """Checks outputs against the metadata of one version. Immutable, so any thread may use it.

    A version that declares no outputs (only a Python class may do so) can give arrays of any name, type and
    shape that the protocol knows.
    """

    def __init__(self, metadata: ModelMetadata) -> None:
        self._version = str(metadata.ref)
        self._facts: dict[str, _Fact] = {spec.name: _fact(spec) for spec in metadata.outputs}

    def verify_wanted(self, wanted: Sequence[str]) -> None:
        """Every wanted output exists.

        Raises:
            OutputUnknown: naming the first that does not.
        """
        for name in wanted:
            if self._facts and name not in self._facts:
                known = ", ".join(self._facts)
                raise OutputUnknown(version=self._version, output=str(name)[:100], known=known)

    def decode(self, outputs: object, wanted: Sequence[str]) -> Tensors:
        """The outputs, checked, in declared order or as wanted.

        Raises:
            OutputUndecodable: naming the output and what is wrong with it.
        """
        if not isinstance(outputs, Mapping):
            reason = f"outputs are a {type(outputs).__name__}, expected a mapping of names to arrays"
            raise OutputUndecodable(version=self._version, output="*", reason=reason)
        if len(outputs) > MAX_CALL_TENSORS:
            raise self._undecodable("*", f"{len(outputs)} outputs, at most {MAX_CALL_TENSORS}")
        facts = self._facts or {name: _any_fact(array) for name, array in outputs.items()}
        for name in outputs:
            if name not in facts:
                raise self._undecodable(str(name)[:100], "it is not declared")
            if not (self._facts or _is_name(name)):
                raise self._undecodable(ascii(name)[:100], f"a name is a text of 1 to {MAX_NAME} characters")
        for name, fact in facts.items():
            reason = _flaw(outputs.get(name), fact)
            if reason:
                raise self._undecodable(name, reason)
        for name in wanted:
            if name not in outputs:
                raise self._undecodable(name, "it is missing")
        return {name: outputs[name] for name in (wanted or facts)}

    def _undecodable(self, output: str, reason: str) -> OutputUndecodable:
        return OutputUndecodable(version=self._version, output=output, reason=reason)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable()


def _fact(spec: TensorSpec) -> _Fact:
    bounds = spec.bounds or tuple(None if extent < 0 else extent for extent in spec.shape)
    return spec.datatype, numpy_of(spec.datatype), spec.shape, bounds


def _any_fact(array: object) -> _Fact:
    """What an undeclared output is held against: its own shape, and a type that the protocol can carry."""
    if not isinstance(array, np.ndarray):
        return "an array", None, (), ()
    datatype = "BYTES" if array.dtype == np.dtype(object) else _datatype(array.dtype)
    return datatype, numpy_of(datatype), array.shape, array.shape


def _datatype(dtype: np.dtype[Any]) -> str:
    try:
        return datatype_of(DType(dtype.name))
    except ValueError:
        return "none that the protocol knows"


def _flaw(array: object, fact: _Fact) -> str:
    """What is wrong with an output, or nothing."""
    datatype, dtype, shape, bounds = fact
    if array is None:
        return "it is missing"
    if not isinstance(array, np.ndarray):
        return f"it is a {type(array).__name__}, not an array"
    if dtype is None or array.dtype != dtype:
        return f"element type {array.dtype}, declared {datatype}"
    if array.ndim > MAX_TENSOR_AXES:
        return f"{array.ndim} axes, at most {MAX_TENSOR_AXES}"
    if array.ndim != len(shape):
        return f"shape {array.shape}, declared {shape}"
    for extent, declared, bound in zip(array.shape, shape, bounds, strict=True):
        if (declared >= 0 and extent != declared) or (bound is not None and extent > bound):
            return f"shape {array.shape}, declared {shape}"
    if datatype == "BYTES" and not all(isinstance(item, bytes) for item in array.flat):
        return "an element is not bytes"
    return ""
