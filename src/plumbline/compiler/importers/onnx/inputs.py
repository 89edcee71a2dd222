"""Inputs of a model: types from the file, and shapes, bounds of symbols and constants from the caller."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.constant import ArrayConstant
from plumbline.compiler.graph.graph import TensorID
from plumbline.compiler.importers.limits import ImportLimits
from plumbline.compiler.importers.onnx.node import DTYPES
from plumbline.compiler.importers.onnx.refusals import (
    BindingRefused,
    InputShapeUnknown,
    InputTypeUnsupported,
    SymbolUnbounded,
)
from plumbline.compiler.importers.onnx_wire import OnnxGraph, OnnxValueInfo
from plumbline.compiler.importers.onnx_wire.data_types import find_data_type
from plumbline.contracts.dims import Dim, symbol
from plumbline.contracts.tensors import DType, TensorType

__all__ = ["ImportOptions", "InputReader"]

OPEN_LEADING = "batch"
"""Name of the first axis of every input that leaves it open: requests come in rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What the caller says about a model.

    Attributes:
        symbols: bound of each symbolic dimension. An axis without a name gets one: the first of an input is
            `batch`, which all inputs share, another is `INPUT_AXIS`.
        shapes: shape of inputs whose rank the model leaves open (or to make symbolic axes static).
        constants: inputs to bind at build.
        limits: what a file may ask of the importer.
        expected_digest: SHA-256 of the model file, or None.
    """

    symbols: Mapping[str, int] = field(default_factory=dict)
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    limits: ImportLimits = field(default_factory=ImportLimits)
    expected_digest: str | None = None


class InputReader:
    """Adds the inputs of a graph to a builder.

    Raises:
        BindingRefused: the caller names an input or a symbol that the model does not have or a bad bound.
    """

    def __init__(self, graph: OnnxGraph, options: ImportOptions, builder: GraphBuilder) -> None:
        self._options, self._builder = options, builder
        inputs = {value.name for value in graph.inputs}
        dims = {
            d or _open_name(v.name, axis)
            for v in graph.inputs
            for axis, d in enumerate(v.shape or ())
            if not isinstance(d, int)
        }
        _verify_names("shape", options.shapes, inputs)
        _verify_names("constant", options.constants, inputs)
        _verify_names("symbol", options.symbols, dims | {_identifier(d) for d in dims})
        for name, bound in options.symbols.items():
            if bound < 1:
                raise BindingRefused(kind="symbol", name=name, reason=f"its bound is {bound}, less than 1")

    def add(self, value: OnnxValueInfo) -> TensorID:
        """An input, or the constant that the caller binds in its place.

        Raises:
            InputTypeUnsupported: it is no dense tensor of a type that is computed with.
            InputShapeUnknown: its rank is not stated and not given.
            SymbolUnbounded: an axis is a symbol without a bound.
            BindingRefused: what the caller gives contradicts the file.
        """
        dtype = DTYPES.get(value.elem_type or 0)
        if dtype is None:
            supported = ", ".join(_type_name(code) for code in DTYPES)
            raise InputTypeUnsupported(input=value.name, found=_found(value), supported=supported)
        bound = self._options.constants.get(value.name)
        if bound is not None:
            array = _bound_array(value, np.asarray(bound), dtype)
            type_ = TensorType(dtype, array.shape)
            return self._builder.stored_constant(ArrayConstant(array), type_, value.name)
        return self._builder.input(value.name, TensorType(dtype, self._shape(value)))

    def _shape(self, value: OnnxValueInfo) -> tuple[Dim, ...]:
        given = self._options.shapes.get(value.name)
        if given is not None:
            shape = tuple(int(d) for d in given)
            _verify_shape("shape", value, shape)
            return shape
        if value.shape is None:
            raise InputShapeUnknown(input=value.name, reason="the model does not state its rank")
        return tuple(self._dim(value.name, axis, dim) for axis, dim in enumerate(value.shape))

    def _dim(self, name: str, axis: int, dim: int | str | None) -> Dim:
        if isinstance(dim, int):
            return dim
        known = dim or _open_name(name, axis)
        plain = _identifier(known)
        bound = self._options.symbols.get(known, self._options.symbols.get(plain))
        if bound is None:
            raise SymbolUnbounded(input=name, axis=axis, symbol=plain)
        self._builder.symbol(plain, int(bound))
        return symbol(plain)


def _type_name(code: int) -> str:
    """An element type by name, such as float16."""
    known = find_data_type(code)
    return f"type {code}" if known is None else known.name


def _found(value: OnnxValueInfo) -> str:
    """What an input is that cannot be one."""
    if value.elem_type:
        return f"a tensor of {_type_name(value.elem_type)}"
    return "a sequence, a map, a sparse or an optional value, or of no type"


def _open_name(input: str, axis: int) -> str:
    return OPEN_LEADING if axis == 0 else f"{_identifier(input)}_{axis}"


def _verify_names(kind: str, given: Mapping[str, object], names: set[str]) -> None:
    """A misspelt name would be dropped in silence."""
    for name in given:
        if name not in names:
            there = ", ".join(sorted(names)) or "none"
            raise BindingRefused(kind=kind, name=name, reason=f"unknown; there are: {there}")


def _bound_array(value: OnnxValueInfo, array: np.ndarray, dtype: DType) -> np.ndarray:
    """A dense array of the declared type and shape; bfloat16 as its bits."""
    _verify_shape("constant", value, array.shape)
    if array.dtype.name == "bfloat16":
        array = array.view(np.uint16)
    if array.dtype != dtype.numpy and not np.can_cast(array.dtype, dtype.numpy, "same_kind"):
        reason = f"its element type is {array.dtype}, the model declares {dtype.value}"
        raise BindingRefused(kind="constant", name=value.name, reason=reason)
    return np.ascontiguousarray(array, dtype.numpy).reshape(array.shape)


def _verify_shape(kind: str, value: OnnxValueInfo, shape: tuple[int, ...]) -> None:
    declared = value.shape
    fits = declared is None or (
        len(declared) == len(shape)
        and all(not isinstance(d, int) or d == s for d, s in zip(declared, shape, strict=True))
    )
    if not fits or any(s < 0 for s in shape):
        reason = f"{list(shape)} does not fit the declared shape {list(declared or ())}"
        raise BindingRefused(kind=kind, name=value.name, reason=reason)


def _identifier(name: str) -> str:
    """A symbol name that dimension expressions can spell."""
    plain = re.sub(r"\W", "_", name)
    return plain if plain and not plain[0].isdigit() else f"d_{plain}"
