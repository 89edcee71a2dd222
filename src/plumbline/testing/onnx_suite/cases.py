"""Cases of the suite that the `onnx` package generates (kind `node`) or carries as files."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from plumbline.testing.onnx_suite.bindings import bindable_inputs

__all__ = ["KINDS", "SuiteCase", "load_cases"]

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
"""Parts of the suite, by their names in `onnx.backend.test`."""

Arrays = Mapping[str, np.ndarray]

_DENSE = frozenset(
    (
        TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BOOL,
        TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64,
        TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64,
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteCase:
    """A model with data sets of inputs and expected outputs, by name.

    Attributes:
        bound: inputs that may be bound at build (`bindings`).
        rtol: relative tolerance that the suite states.
        atol: absolute tolerance that the suite states.
    """

    name: str
    kind: str
    operator: str
    model: bytes
    data_sets: tuple[tuple[Arrays, Arrays], ...]
    bound: frozenset[str]
    rtol: float
    atol: float


def load_cases(
    kinds: Sequence[str] = KINDS, names: Sequence[str] | None = None, operator: str | None = None
) -> tuple[tuple[SuiteCase, ...], dict[str, int]]:
    """The dense cases of some kinds, and how many were left out for which reason.

    Args:
        kinds: some of `KINDS`.
        names: regular expressions; a case counts if one matches within its name. None means all.
        operator: only cases of this operator.
    """
    found: list[SuiteCase] = []
    excluded: Counter[str] = Counter()
    for kind in kinds:
        standard: dict[str, tuple[str, frozenset[str]]] = {}
        for test, model in _tests(kind):
            facts = _facts(test.name, model, kind, standard)
            if not _is_wanted(test.name, facts[0], names, operator):
                continue
            reason = _reason_to_exclude(model)
            if reason:
                excluded[reason] += 1
                continue
            found.append(_suite_case(test, model, kind, *facts))
    return tuple(found), dict(excluded)


def _tests(kind: str) -> Iterator[tuple[Any, onnx.ModelProto]]:
    """Tests of a kind with their models, plain ones before those that a function body was expanded in."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the suite computes with infinities on purpose
        tests = load_model_tests(kind=kind)
    for test in sorted(tests, key=lambda t: ("_expanded" in t.name, t.name)):
        if test.model is not None:
            yield test, test.model
        elif test.model_dir is not None:
            yield test, onnx.load(Path(test.model_dir) / "model.onnx")
        else:
            raise FileNotFoundError(f"case {test.name} has no model in this installation of onnx")


def _facts(
    name: str, model: onnx.ModelProto, kind: str, standard: dict[str, tuple[str, frozenset[str]]]
) -> tuple[str, frozenset[str]]:
    """Operator and bindable inputs. An expanded case has those of the operator that it stands for."""
    base = standard.get(re.sub(r"_expanded.*$", "", name)) if "_expanded" in name else None
    bound = bindable_inputs(model)
    if base is not None:
        return base[0], base[1] | bound
    nodes = {node.op_type for node in model.graph.node}
    is_single = kind == "node" or len(nodes) == 1
    operator = model.graph.node[0].op_type if is_single else name.removeprefix("test_")
    standard[name] = (operator, bound)
    return standard[name]


def _is_wanted(name: str, operator: str, names: Sequence[str] | None, wanted: str | None) -> bool:
    if wanted is not None and operator != wanted:
        return False
    return names is None or any(re.search(pattern, name) for pattern in names)


def _reason_to_exclude(model: onnx.ModelProto) -> str:
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            return str(kind).removesuffix("_type")
        code = value.type.tensor_type.elem_type
        if code not in _DENSE:
            return str(TensorProto.DataType.Name(code)).lower()
    return ""


def _suite_case(
    test: Any, model: onnx.ModelProto, kind: str, operator: str, bound: frozenset[str]
) -> SuiteCase:
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [v.name for v in model.graph.input if v.name not in initializers]
    outputs = [v.name for v in model.graph.output]
    raw = test.data_sets if test.data_sets is not None else _read_sets(Path(test.model_dir))
    sets = tuple((_named(inputs, given), _named(outputs, expected)) for given, expected in raw)
    return SuiteCase(
        name=test.name, kind=kind, operator=operator, model=model.SerializeToString(), data_sets=sets,
        bound=bound, rtol=test.rtol, atol=test.atol,
    )  # fmt: skip


def _named(names: Sequence[str], values: Sequence[Any]) -> Arrays:
    return {name: _array(value) for name, value in zip(names, values, strict=False)}


def _array(value: Any) -> np.ndarray:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def _read_sets(folder: Path) -> list[tuple[list[np.ndarray], list[np.ndarray]]]:
    sets = sorted(folder.glob("test_data_set_*"))
    if not sets:
        raise FileNotFoundError(f"case {folder.name} has no data")
    return [(_read_arrays(s, "input"), _read_arrays(s, "output")) for s in sets]


def _read_arrays(folder: Path, role: str) -> list[np.ndarray]:
    paths = sorted(folder.glob(f"{role}_*.pb"), key=lambda p: int(p.stem.rsplit("_", 1)[1]))
    return [numpy_helper.to_array(TensorProto.FromString(p.read_bytes())) for p in paths]
