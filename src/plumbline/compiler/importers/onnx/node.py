"""`NodeView`: what a converter sees of one ONNX node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

import numpy as np

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.graph import TensorID
from plumbline.compiler.importers.onnx.refusals import DataDependentShape, NodeRefused
from plumbline.compiler.importers.onnx_wire import OnnxGraph, OnnxNode, OnnxTensor, read_array
from plumbline.contracts.dims import Dim
from plumbline.contracts.tensors import DType, TensorType

__all__ = ["DTYPES", "NodeView"]

Int: TypeAlias = int
Float: TypeAlias = float
Kind: TypeAlias = type
# The types under other names, for signatures inside `NodeView`, whose methods are called like them.

DTYPES: Mapping[int, DType] = {
    1: DType.FLOAT32, 2: DType.UINT8, 3: DType.INT8, 4: DType.UINT16, 5: DType.INT16, 6: DType.INT32,
    7: DType.INT64, 9: DType.BOOL, 10: DType.FLOAT16, 11: DType.FLOAT64, 12: DType.UINT32, 13: DType.UINT64,
    16: DType.BFLOAT16,
}  # fmt: skip
"""Element types by `TensorProto.DataType` code."""


class NodeView:
    """One node with its operands resolved. All `add` calls go to the graph under construction."""

    def __init__(
        self, record: OnnxNode, label: str, opset: Int, inputs: tuple[TensorID | None, ...],
        builder: GraphBuilder, attributes: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.record, self.name, self.opset = record, label, opset
        self.inputs, self.builder, self._attributes = inputs, builder, attributes

    @property
    def operator(self) -> str:
        """ONNX operator name."""
        return self.record.op_type

    @property
    def output_count(self) -> Int:
        """Number of declared outputs, omitted ones included."""
        return len(self.record.outputs)

    def wants(self, output: Int) -> bool:
        """Whether an output is named, so that somebody may read it."""
        return output < len(self.record.outputs) and self.record.outputs[output] != ""

    # -- operands ------------------------------------------------------------------------------------------

    def input(self, position: Int) -> TensorID:
        """A required operand.

        Raises:
            NodeRefused: it is absent.
        """
        tensor = self.optional(position)
        if tensor is None:
            self.refuse(f"input {position} is missing")
        return tensor

    def optional(self, position: Int) -> TensorID | None:
        """An operand that may be absent."""
        return self.inputs[position] if position < len(self.inputs) else None

    def type(self, position: Int) -> TensorType:
        """Type of a required operand."""
        return self.builder.type_of(self.input(position))

    def shape(self, position: Int) -> tuple[Dim, ...]:
        """Shape of a required operand."""
        return self.type(position).shape

    def rank(self, position: Int) -> Int:
        """Rank of a required operand."""
        return self.type(position).rank

    def dims(self, position: Int) -> tuple[Dim, ...]:
        """Values of an integer operand that are known at build, flattened: integers or dimensions.

        Raises:
            DataDependentShape: the values are known only at run time.
        """
        value = self.builder.find_value(self.input(position))
        if value is None:
            self.refuse_data_dependent(f"input {position} decides a shape")
        return tuple(value.ravel())

    def optional_dims(self, position: Int) -> tuple[Dim, ...] | None:
        """`dims` of an operand that may be absent."""
        return None if self.optional(position) is None else self.dims(position)

    def integers(self, position: Int) -> tuple[Int, ...]:
        """Like `dims`, and every value a plain integer.

        Raises:
            DataDependentShape: a value is symbolic or unknown.
        """
        values = self.dims(position)
        if not all(isinstance(v, int) for v in values):
            self.refuse_data_dependent(f"input {position} must be plain integers")
        return tuple(int(v) for v in values if isinstance(v, int))

    def numbers(self, position: Int) -> np.ndarray:
        """A constant operand as an array.

        Raises:
            DataDependentShape: it is not constant.
        """
        array = self.builder.find_constant(self.input(position))
        if array is None:
            self.refuse_data_dependent(f"input {position} must be constant")
        return array

    def find_numbers(self, position: Int) -> np.ndarray | None:
        """A constant operand as an array; None where it is absent or not constant."""
        tensor = self.optional(position)
        return None if tensor is None else self.builder.find_constant(tensor)

    # -- attributes ----------------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Whether an attribute is present."""
        return name in self._attributes

    def int(self, name: str, default: Int | None = None) -> Int:
        """An integer attribute."""
        return int(self._attribute(name, default, int))

    def float(self, name: str, default: Float | None = None) -> Float:
        """A float attribute."""
        return float(self._attribute(name, default, (int, float)))

    def string(self, name: str, default: str | None = None) -> str:
        """A string attribute."""
        return str(self._attribute(name, default, str))

    def ints(self, name: str, default: Sequence[Int] | None = None) -> tuple[Int, ...]:
        """A list of integers."""
        found: tuple[Int, ...] = self._list(name, default, (int,))
        return found

    def floats(self, name: str, default: Sequence[Float] | None = None) -> tuple[Float, ...]:
        """A list of floats."""
        found: tuple[Float, ...] = self._list(name, default, (int, float))
        return found

    def strings(self, name: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        """A list of strings."""
        found: tuple[str, ...] = self._list(name, default, (str,))
        return found

    def array(self, name: str) -> np.ndarray:
        """A tensor attribute as an array."""
        return read_array(self._attribute(name, None, OnnxTensor))

    def tensor(self, name: str) -> OnnxTensor:
        """A tensor attribute."""
        found: OnnxTensor = self._attribute(name, None, OnnxTensor)
        return found

    def graph(self, name: str) -> OnnxGraph:
        """A graph attribute."""
        found: OnnxGraph = self._attribute(name, None, OnnxGraph)
        return found

    def dtype(self, code: Int) -> DType:
        """Element type of a type code.

        Raises:
            NodeRefused: native code has no such type.
        """
        if code not in DTYPES:
            self.refuse(f"element type code {code} is not supported")
        return DTYPES[code]

    def _list(self, name: str, default: Any, kinds: tuple[Kind, ...]) -> Any:
        items = tuple(self._attribute(name, default, (tuple, list)))
        if not all(isinstance(item, kinds) for item in items):
            self.refuse(f"attribute {name} has another kind of value")
        return items

    def _attribute(self, name: str, default: Any, kind: Kind | tuple[Kind, ...]) -> Any:
        value = self._attributes.get(name, default)
        if value is None:
            self.refuse(f"attribute {name} is missing")
        if isinstance(value, bytes):
            value = value.decode("utf-8", errors="replace")
        if not isinstance(value, kind):
            self.refuse(f"attribute {name} has another kind of value")
        return value

    # -- making --------------------------------------------------------------------------------------------

    def add(
        self, operation: str, inputs: Sequence[TensorID | None], attributes: Mapping[str, Any] | None = None
    ) -> tuple[TensorID, ...]:
        """Add an operator of ours; its results."""
        return self.builder.add(operation, inputs, attributes, self._wish())

    def add1(
        self, operation: str, inputs: Sequence[TensorID | None], attributes: Mapping[str, Any] | None = None
    ) -> TensorID:
        """`add` for one result."""
        return self.builder.add1(operation, inputs, attributes, self._wish())

    def constant(self, array: np.ndarray, dtype: DType | None = None) -> TensorID:
        """A constant tensor (give `dtype` for bfloat16, which numpy carries as uint16)."""
        if dtype is None:
            return self.builder.constant(np.asarray(array), f"{self.name}/constant")
        from plumbline.compiler.graph.constant import ArrayConstant

        dense = np.ascontiguousarray(array).reshape(np.shape(array))
        type_ = TensorType(dtype, dense.shape)
        return self.builder.stored_constant(ArrayConstant(dense), type_, f"{self.name}/constant")

    def scalar(self, value: Float | Int | bool, dtype: DType) -> TensorID:
        """A scalar constant of an element type."""
        if dtype is DType.BFLOAT16:
            bits = np.array(value, np.float32).view(np.uint32)
            return self.constant(np.array((bits + 0x8000) >> 16, np.uint16), dtype)
        return self.constant(np.array(value, dtype.numpy))

    def reshape(self, tensor: TensorID, shape: Sequence[Dim]) -> TensorID:
        """A view in another shape."""
        return self.add1("reshape", [tensor], {"shape": tuple(shape)})

    def cast(self, tensor: TensorID, dtype: DType) -> TensorID:
        """A conversion; nothing where the type is right already."""
        if self.builder.type_of(tensor).dtype is dtype:
            return tensor
        return self.add1("cast", [tensor], {"to": dtype.value})

    def refuse(self, reason: str) -> NoReturn:
        """Refuse the node for good.

        Raises:
            NodeRefused: always.
        """
        raise NodeRefused(
            node=self.name, operator=self.operator, domain=self.record.domain, opset=self.opset, reason=reason
        )

    def refuse_data_dependent(self, reason: str) -> NoReturn:
        """Refuse the node because something must be known at build.

        Raises:
            DataDependentShape: always.
        """
        raise DataDependentShape(node=self.name, operator=self.operator, opset=self.opset, reason=reason)

    def _wish(self) -> str:
        named = next((o for o in self.record.outputs if o), "")
        return named or self.name or self.operator.lower()
