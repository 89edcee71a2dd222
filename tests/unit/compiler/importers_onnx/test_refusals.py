"""What cannot be compiled is refused for good: node, operator, opset and what is needed (L2-02, X-34)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import FLOAT, INT64, compute, model, value

from plumbline.compiler.importers.onnx import ImportOptions, import_onnx
from plumbline.compiler.importers.onnx.convert import NEWEST_OPSET
from plumbline.compiler.importers.onnx.refusals import (
    BindingRefused,
    DataDependentShape,
    InputShapeUnknown,
    InputTypeUnsupported,
    NodeRefused,
    OperatorUnsupported,
    OpsetTooNew,
    SymbolUnbounded,
)
from plumbline.compiler.passes.pipeline import run_passes
from plumbline.contracts.tensors import DType
from plumbline.errors import PlumblineError, Recoverability
from plumbline.kernels.emit.target import AVX2
from plumbline.serving.repository.settings import read_version_toml

X = value("x", FLOAT, [2, 3])
Y = value("y", FLOAT, None)


def single(
    operator: str, inputs: list[str], given: list[onnx.ValueInfoProto], opset: int = 21, **attributes: Any
) -> bytes:
    domain = attributes.pop("domain", "")
    node = helper.make_node(operator, inputs, ["y"], name=f"my_{operator}", domain=domain, **attributes)
    domains = {domain: 1} if domain else {}
    return model([node], given, [Y], opset=opset, domains=domains)


DYNAMIC = {
    "NonZero": (single("NonZero", ["x"], [X]), "not zero"),
    "Unique": (single("Unique", ["x"], [X]), "different"),
    "Compress": (single("Compress", ["x", "c"], [X, value("c", TensorProto.BOOL, [2])]), "constant"),
    "NonMaxSuppression": (
        single("NonMaxSuppression", ["b", "s"], [value("b", FLOAT, [1, 4, 4]), value("s", FLOAT, [1, 1, 4])]),
        "boxes",
    ),
    "Reshape": (single("Reshape", ["x", "s"], [X, value("s", INT64, [2])]), "shape"),
    "Expand": (single("Expand", ["x", "s"], [X, value("s", INT64, [2])]), "shape"),
    "ConstantOfShape": (single("ConstantOfShape", ["s"], [value("s", INT64, [2])]), "shape"),
    "Range": (single("Range", ["s", "s", "s"], [value("s", INT64, [])]), "run-time"),
    "TopK": (single("TopK", ["x", "k"], [X, value("k", INT64, [1])]), "run-time"),
    "ImageDecoder": (single("ImageDecoder", ["b"], [value("b", TensorProto.UINT8, [9])]), "image"),
}


@pytest.mark.parametrize("operator", DYNAMIC)
def test_shape_that_depends_on_data_is_refused_by_node_operator_and_opset(operator: str) -> None:
    """L2-23: the message says which value could be bound instead."""
    data, reason = DYNAMIC[operator]
    with pytest.raises(DataDependentShape, match=reason) as refused:
        import_onnx(data)
    error = refused.value
    assert (error.node, error.operator, error.opset) == (f"my_{operator}", operator, 21)
    assert "constants" in error.message
    assert error.recoverability is Recoverability.PERMANENT


UNSUPPORTED = {
    "sequences": (single("SequenceEmpty", [], [X]), "sequences of tensors"),
    "splits into sequences": (single("SplitToSequence", ["x"], [X]), "sequences of tensors"),
    "optionals": (single("Optional", ["x"], [X]), "may be absent"),
    "patterns": (single("RegexFullMatch", ["x"], [X], pattern="a"), "strings"),
    "random numbers": (single("RandomNormalLike", ["x"], [X]), "random numbers"),
    "other domains": (single("Magic", ["x"], [X], domain="com.example"), "native code and a converter"),
    "unknown names": (single("Mystery", ["x"], [X]), "native code and a converter"),
}


@pytest.mark.parametrize("what", UNSUPPORTED)
def test_unsupported_operator_says_what_it_would_need(what: str) -> None:
    data, needed = UNSUPPORTED[what]
    with pytest.raises(OperatorUnsupported, match=needed) as refused:
        import_onnx(data)
    assert refused.value.node.startswith("my_")
    assert refused.value.opset in (1, 21)
    assert refused.value.recoverability is Recoverability.PERMANENT


def test_operator_of_a_known_kind_with_bad_shapes_names_node_and_reason() -> None:
    data = single("MatMul", ["x", "w"], [X, value("w", FLOAT, [5, 2])])
    with pytest.raises(NodeRefused, match=r"my_MatMul.*MatMul.*opset 21"):
        import_onnx(data)


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [("Transpose", {"perm": [0.5, 1.5]}), ("Transpose", {"perm": "ab"}), ("Softmax", {"axis": "last"}),
     ("Transpose", {"perm": [0, 0]}), ("Softmax", {"axis": 7}), ("Flatten", {"axis": 9}),
     ("Concat", {"axis": -8}),
     ("LeakyRelu", {"alpha": "steep"}), ("Cast", {"to": 99}), ("Cast", {}), ("Gather", {"axis": 5})],
)  # fmt: skip
def test_attribute_of_the_wrong_kind_or_value_is_a_typed_refusal(
    operator: str, attributes: dict[str, Any]
) -> None:
    with pytest.raises(PlumblineError) as refused:
        import_onnx(single(operator, ["x"], [X], **attributes))
    assert refused.value.recoverability is Recoverability.PERMANENT


def test_constant_that_decides_a_shape_may_be_bound() -> None:
    found = compute(DYNAMIC["Reshape"][0], {"x": np.zeros((2, 3), np.float32)}, s=np.array([3, 2]))
    assert found["y"].shape == (3, 2)


def test_nonzero_and_unique_of_constants_are_computed_at_build() -> None:
    data = np.array([[3, 0, 3], [0, 7, 1]], np.float32)
    given = {"x": data}
    np.testing.assert_array_equal(
        compute(DYNAMIC["NonZero"][0], {}, **given)["y"], np.array(np.nonzero(data))
    )
    np.testing.assert_array_equal(compute(DYNAMIC["Unique"][0], {}, **given)["y"], [0, 1, 3, 7])
    unsorted = single("Unique", ["x"], [X], sorted=0)
    np.testing.assert_array_equal(compute(unsorted, {}, **given)["y"], [3, 0, 7, 1])


SYMBOLIC = single("Relu", ["x"], [value("x", FLOAT, ["batch size", 3])])


def test_symbol_without_bound_is_refused_with_the_option_that_helps() -> None:
    with pytest.raises(SymbolUnbounded, match=r"axis 0.*--symbol batch_size=8"):
        import_onnx(SYMBOLIC)


def test_symbol_without_bound_is_refused_with_the_lines_that_bind_it_in_version_toml(tmp_path: Path) -> None:
    with pytest.raises(SymbolUnbounded) as refused:
        import_onnx(SYMBOLIC)
    said = re.search(r"line (\[symbols\]) of version\.toml the line (.+)$", refused.value.message)
    assert said is not None
    (tmp_path / "version.toml").write_text("\n".join(said.groups()))
    settings, _ = read_version_toml(tmp_path, subject="m@1")
    assert import_onnx(SYMBOLIC, ImportOptions(symbols=settings.symbols)).symbols == {"batch_size": 8}


@pytest.mark.parametrize("name", ["batch size", "batch_size"])
def test_symbol_is_bound_by_its_name_in_the_file_or_by_its_plain_form(name: str) -> None:
    assert import_onnx(SYMBOLIC, ImportOptions(symbols={name: 4})).symbols == {"batch_size": 4}


@pytest.mark.parametrize("shape", [None, [None, 3], [-1, 3]])
def test_input_without_rank_or_extent_takes_the_shape_that_is_given(shape: Any) -> None:
    graph = import_onnx(
        single("Relu", ["x"], [value("x", FLOAT, shape)]), ImportOptions(shapes={"x": (5, 3)})
    )
    assert graph.type_of(graph.inputs["x"]).shape == (5, 3)


def test_input_without_rank_needs_its_shape() -> None:
    with pytest.raises(InputShapeUnknown, match="--shape x="):
        import_onnx(single("Relu", ["x"], [value("x", FLOAT, None)]))


@pytest.mark.parametrize("left_open", [None, -1])
def test_axis_without_a_name_gets_one_that_a_bound_can_be_given_for(left_open: Any) -> None:
    """Classifiers of scikit-learn and files of older exporters name none of their axes."""
    two = single("Add", ["x", "a b"], [value(n, FLOAT, [left_open, left_open, 3]) for n in ("x", "a b")])
    with pytest.raises(SymbolUnbounded, match="input 'x', axis 0: symbol 'batch' needs a bound"):
        import_onnx(two)
    with pytest.raises(SymbolUnbounded, match="input 'a b', axis 1: symbol 'a_b_1' needs a bound"):
        import_onnx(two, ImportOptions(symbols={"batch": 4, "x_1": 5}))
    one = single("Relu", ["x"], [value("x", FLOAT, [left_open, left_open, 3])])
    graph = import_onnx(one, ImportOptions(symbols={"batch": 4, "x_1": 5}))
    assert graph.symbols == {"batch": 4, "x_1": 5}
    assert [str(d) for d in graph.type_of(graph.inputs["x"]).shape] == ["batch", "x_1", "3"]


def test_first_axes_without_a_name_are_one_batch() -> None:
    """Two inputs with rows of one request can be added: their open first axes are the same number."""
    rows = [value(n, FLOAT, [None, 3]) for n in ("x", "z")]
    graph = import_onnx(single("Add", ["x", "z"], rows), ImportOptions(symbols={"batch": 4}))
    assert [str(d) for d in graph.type_of(graph.outputs["y"]).shape] == ["batch", "3"]


@pytest.mark.parametrize(
    ("code", "found"),
    [(TensorProto.STRING, "string"), (TensorProto.COMPLEX64, "complex64"), (TensorProto.INT4, "int4")],
)
def test_input_of_a_type_that_nothing_computes_with_is_refused_with_the_types_that_are(
    code: int, found: str
) -> None:
    with pytest.raises(InputTypeUnsupported, match=f"a tensor of {found}; .*float32, uint8.*bfloat16"):
        import_onnx(single("Identity", ["x"], [value("x", code, [2])]))


def test_input_that_is_a_sequence_is_refused_as_one() -> None:
    sequence = helper.make_tensor_sequence_value_info("x", FLOAT, [2])
    with pytest.raises(InputTypeUnsupported, match="'x' is a sequence, a map"):
        import_onnx(single("SequenceLength", ["x"], [sequence]))


def test_opset_that_came_after_this_importer_is_refused_by_number() -> None:
    """What an operator means may change with an opset, so an unknown one is not guessed at."""
    with pytest.raises(OpsetTooNew, match=f"opset {NEWEST_OPSET + 1} .* newest known here is {NEWEST_OPSET}"):
        import_onnx(single("Relu", ["x"], [X], opset=NEWEST_OPSET + 1))
    assert import_onnx(single("Relu", ["x"], [X], opset=NEWEST_OPSET)).outputs


def test_newest_opset_is_that_of_the_suite_that_is_run() -> None:
    assert onnx.defs.onnx_opset_version() == NEWEST_OPSET


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (ImportOptions(symbols={"batch": 8}), "symbol 'batch': unknown"),
        (ImportOptions(shapes={"z": (2,)}), "shape 'z': unknown; there are: x"),
        (ImportOptions(constants={"z": np.zeros(2)}), "constant 'z': unknown"),
        (ImportOptions(shapes={"x": (2, 4)}), "does not fit"),
        (ImportOptions(shapes={"x": (-2, 3)}), "does not fit"),
        (ImportOptions(constants={"x": np.zeros((3, 2), np.float32)}), "does not fit"),
        (ImportOptions(constants={"x": np.zeros((2, 3), np.complex64)}), "element type"),
    ],
)
def test_binding_that_no_input_has_is_refused_instead_of_dropped(options: ImportOptions, reason: str) -> None:
    with pytest.raises(BindingRefused, match=reason):
        import_onnx(single("Relu", ["x"], [X]), options)


@pytest.mark.parametrize(
    ("operator", "inputs"), [("Add", ["x"]), ("Relu", ["x", "x"]), ("Concat", []), ("Where", ["x", "x"])]
)
def test_number_of_operands_that_the_standard_does_not_allow_is_refused(
    operator: str, inputs: list[str]
) -> None:
    with pytest.raises(NodeRefused, match=f"{len(inputs)} inputs"):
        import_onnx(single(operator, inputs, [X]))


@pytest.mark.parametrize("bound", [0, -4])
def test_bound_below_one_is_refused(bound: int) -> None:
    with pytest.raises(BindingRefused, match="less than 1"):
        import_onnx(SYMBOLIC, ImportOptions(symbols={"batch_size": bound}))


def test_an_output_declared_in_another_type_than_it_has_is_noted_with_both() -> None:
    """`plumb compile --explain` tells it, and what is served has the real type."""
    node = helper.make_node("Relu", ["x"], ["y"])
    graph = import_onnx(model([node], [X], [value("y", INT64, [2, 3])]))
    _, report = run_passes(graph, AVX2)
    (note,) = [r for r in report.rewrites if r.kind == "noted"]
    assert (note.pass_name, note.subject) == ("import", "output y")
    assert note.detail == "the file declares int64; its nodes give float32, which is what is served"
    assert graph.type_of(graph.outputs["y"]).dtype is DType.FLOAT32
    assert import_onnx(model([node], [X], [Y])).notes == ()


def test_what_a_server_cannot_be_told_in_version_toml_is_said() -> None:
    """The hints for the command line and the library cannot be followed there."""
    unranked = model([helper.make_node("Relu", ["x"], ["y"])], [value("x", FLOAT, None)], [Y])
    with pytest.raises(InputShapeUnknown, match="For a server, state the shape in the model file"):
        import_onnx(unranked)
    with pytest.raises(DataDependentShape, match="For a server, make the input an initializer"):
        import_onnx(DYNAMIC["Reshape"][0])
