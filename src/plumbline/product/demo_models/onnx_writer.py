"""ONNX files of small networks, byte by byte: the few messages of the format that they need.

The same calls give the same bytes, whatever is installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["OnnxWriter"]

IR_VERSION, OPSET = 8, 17
FLOAT = 1
"""Element type float32."""
_VARINT, _BYTES = 0, 2
_ATTRIBUTE_INT, _ATTRIBUTE_INTS = 2, 7


@dataclass(kw_only=True)
class OnnxWriter:
    """One graph of float32 tensors; nodes and weights in the order of the calls.

    Attributes:
        name: of the graph.
        inputs: name -> shape; a text is the name of a symbolic extent.
        outputs: likewise.
    """

    name: str
    inputs: Mapping[str, Sequence[int | str]]
    outputs: Mapping[str, Sequence[int | str]]
    _nodes: list[bytes] = field(default_factory=list, init=False)
    _weights: list[bytes] = field(default_factory=list, init=False)

    def weight(self, name: str, array: np.ndarray) -> str:
        """A fixed tensor; returns its name."""
        data = np.ascontiguousarray(array, "<f4")
        dims = b"".join(_number(1, extent) for extent in data.shape)
        self._weights.append(dims + _number(2, FLOAT) + _text(8, name) + _bytes(9, data.tobytes()))
        return name

    def node(
        self, operator: str, inputs: Sequence[str], output: str, **attributes: int | Sequence[int]
    ) -> str:
        """A node with one result; returns its name."""
        parts = [_text(1, name) for name in inputs] + [_text(2, output), _text(3, f"{operator}/{output}")]
        parts += [_text(4, operator)]
        parts += [_bytes(5, _attribute(name, value)) for name, value in sorted(attributes.items())]
        self._nodes.append(b"".join(parts))
        return output

    def model(self) -> bytes:
        """The file."""
        graph = b"".join(
            (
                *(_bytes(1, node) for node in self._nodes),
                _text(2, self.name),
                *(_bytes(5, weight) for weight in self._weights),
                *(_bytes(11, _value(*item)) for item in self.inputs.items()),
                *(_bytes(12, _value(*item)) for item in self.outputs.items()),
            )
        )
        opset = _text(1, "") + _number(2, OPSET)
        return _number(1, IR_VERSION) + _text(2, "plumbline") + _bytes(7, graph) + _bytes(8, opset)


def _value(name: str, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(_bytes(1, _text(2, d) if isinstance(d, str) else _number(1, d)) for d in shape)
    tensor = _number(1, FLOAT) + _bytes(2, dims)
    return _text(1, name) + _bytes(2, _bytes(1, tensor))


def _attribute(name: str, value: int | Sequence[int]) -> bytes:
    if isinstance(value, int):
        return _text(1, name) + _number(3, value) + _number(20, _ATTRIBUTE_INT)
    return _text(1, name) + b"".join(_number(8, v) for v in value) + _number(20, _ATTRIBUTE_INTS)


def _number(tag: int, value: int) -> bytes:
    return _varint(tag << 3 | _VARINT) + _varint(value)


def _text(tag: int, value: str) -> bytes:
    return _bytes(tag, value.encode())


def _bytes(tag: int, value: bytes) -> bytes:
    return _varint(tag << 3 | _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """A number from 0 on, seven bits a byte, lowest first."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
