"""A stranger's format and our own pass one suite (X-67)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import plumbline
from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.graph import ExecutionGraph
from plumbline.compiler.graph.text import format_graph
from plumbline.compiler.importers.formats import (
    FormatConflict,
    FormatOptions,
    ModelFileRefused,
    find_format,
    register_format,
)
from plumbline.contracts.dims import symbol
from plumbline.contracts.tensors import DType, TensorType
from plumbline.engine.model import Model
from plumbline.errors import ValidationError
from plumbline.product.compose import LoadOptions, ModelSourceUnknown, read_graph
from plumbline.product.demo_models.onnx_writer import OnnxWriter
from plumbline.testing.model_formats import ModelFileCase, ModelFormatConformance

# -- the toy: everything that a stranger writes ------------------------------------------------------------


class LineFormat:
    """`{"slope": [[...]], "offset": [...]}`: `y = x @ slope + offset` over `x [N, k]`."""

    name = "line"
    suffix = ".line"

    def read(self, data: bytes, options: FormatOptions) -> ExecutionGraph:
        document = json.loads(data)
        slope = np.array(document["slope"], np.float32)
        offset = np.array(document["offset"], np.float32)
        builder = GraphBuilder("line", {"N": options.symbols.get("N", 4)})
        x = builder.input("x", TensorType(DType.FLOAT32, (symbol("N"), slope.shape[0])))
        y = builder.add1("matmul", [x, builder.constant(slope)])
        builder.output("y", builder.add1("add", [y, builder.constant(offset)]))
        return builder.build()


if find_format(Path("x.line")) is None:
    register_format(LineFormat())

# -- the suite over it and over ours -----------------------------------------------------------------------

X = np.float32([[1, 2], [3, 4]])


class Loading(ModelFormatConformance):
    """How files are read and opened here."""

    def read(self, path: Path) -> ExecutionGraph:
        return read_graph(path, LoadOptions(default_batch=4))

    def open(self, path: Path, *, digest: str | None = None) -> Model:
        return plumbline.load(path, digest=digest, default_batch=4)


class TestLine(Loading):
    suffix = ".line"

    def cases(self) -> Iterator[ModelFileCase]:
        for name, slope in (("up", [[1.0, 0.5], [2.0, -1.0]]), ("down", [[-1.0, 0.5], [2.0, -1.0]])):
            content = json.dumps({"slope": slope, "offset": [0.25, 4.0]}).encode()
            expected = X @ np.float32(slope) + np.float32([0.25, 4.0])
            yield ModelFileCase(name=name, content=content, inputs={"x": X}, outputs={"y": expected})


class TestOnnx(Loading):
    suffix = ".onnx"

    def cases(self) -> Iterator[ModelFileCase]:
        for name, scale in (("twice", 2.0), ("thrice", 3.0)):
            writer = OnnxWriter(name=name, inputs={"x": ["N", 2]}, outputs={"y": ["N", 2]})
            writer.node("Mul", ["x", writer.weight("scale", np.float32([scale]))], "y")
            yield ModelFileCase(
                name=name, content=writer.model(), inputs={"x": X}, outputs={"y": X * np.float32(scale)}
            )


class TestGraphText(Loading):
    suffix = ".graph"

    def cases(self) -> Iterator[ModelFileCase]:
        for name, function in (("negated", "neg"), ("positive", "relu")):
            builder = GraphBuilder(name, {"N": 4})
            x = builder.input("x", TensorType(DType.FLOAT32, (symbol("N"), 2)))
            builder.output("y", builder.add1(function, [x]))
            content = format_graph(builder.build()).encode()
            yield ModelFileCase(
                name=name, content=content, inputs={"x": X}, outputs={"y": -X if function == "neg" else X}
            )


# -- the contract itself -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".line", ".onnx", "line", ".LINE", ".a/b", ""])
def test_taken_or_impossible_suffix_is_refused(suffix: str) -> None:
    class Other(LineFormat):
        pass

    other = Other()
    other.suffix = suffix
    with pytest.raises(FormatConflict):
        register_format(other)


def test_unknown_suffix_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.unheard"
    path.write_bytes(b"1")
    with pytest.raises(ModelSourceUnknown, match=r"model\.unheard"):
        plumbline.load(path)


def test_defect_of_a_reader_is_told_from_a_refusal(tmp_path: Path) -> None:
    """A missing key is the file's fault, without the words of the exception; a typed refusal goes through."""
    path = tmp_path / "half.line"
    path.write_text('{"slope": [[1.0]]}')
    with pytest.raises(ModelFileRefused, match=r"half\.line as line: its reader raised KeyError"):
        plumbline.load(path)
    path.write_text('{"slope": [[1.0]], "offset": [1.0, 2.0, 3.0, 4.0]}')
    with plumbline.load(path) as model:
        assert model.outputs[0].shape == ("N", 4)
    path.write_text('{"slope": [[1.0, 2.0]], "offset": [1.0, 2.0, 3.0]}')
    with pytest.raises(ValidationError):
        plumbline.load(path)


def test_line_file_is_batched_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "model.line"
    path.write_text('{"slope": [[1.0]], "offset": [1.0]}')
    with plumbline.load(path, symbols={"N": 7}) as model:
        assert model.manifest.batch_symbol == "N"
        assert dict(model.manifest.symbols) == {"N": 7}
