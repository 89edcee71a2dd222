"""The walk over an ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.graph import ExecutionGraph, TensorID
from plumbline.compiler.importers.limits import ImportLimitError
from plumbline.compiler.importers.onnx.constants import add_initializer, remember_digest
from plumbline.compiler.importers.onnx.control_flow import CONTROL_FLOW, resolve_control_flow
from plumbline.compiler.importers.onnx.functions import FunctionLibrary, bind_attributes, find_arity
from plumbline.compiler.importers.onnx.inputs import ImportOptions, InputReader
from plumbline.compiler.importers.onnx.node import DTYPES, NodeView
from plumbline.compiler.importers.onnx.refusals import (
    InputShapeUnknown,
    NodeRefused,
    OperatorUnsupported,
    OpsetTooNew,
    needed_for,
)
from plumbline.compiler.importers.onnx.registry import Converted, find_converter
from plumbline.compiler.importers.onnx_wire import (
    OnnxFunction,
    OnnxGraph,
    OnnxModel,
    OnnxNode,
    OnnxTensor,
    OnnxValueInfo,
    order_nodes,
    read_model,
    verify_names,
)
from plumbline.kernels.contract import AttributeRefused, DTypeRefused, ShapeRefused

__all__ = ["NEWEST_OPSET", "ImportOptions", "Walk", "import_onnx"]

NEWEST_OPSET = 28
"""Of the default domain: the newest of which the suite of the standard is run."""

MAX_EXPANSION_DEPTH = 16


def import_onnx(
    source: str | Path | bytes, options: ImportOptions | None = None, *, file_identity: str = ""
) -> ExecutionGraph:
    """Read an ONNX model into a graph. Large weights stay unread.

    Args:
        source: path, or the bytes of the file.
        options: symbols, shapes, constants and limits.
        file_identity: digest of the file, if known: it names weights that stay in the file.

    Raises:
        ArtifactError, ValidationError: leaves that name the place and what would be needed.
    """
    options = options or ImportOptions()
    model = read_model(source, limits=options.limits, expected_digest=options.expected_digest)
    verify_names(model)
    name = Path(source).stem if not isinstance(source, bytes) else (model.graph.name or "model")
    if file_identity:
        for record in model.graph.initializers:
            remember_digest(record, file_identity)
    return Walk(model, GraphBuilder(name), options).run()


class Walk:
    """One pass over a model. Owns the builder and the scopes of value names."""

    def __init__(self, model: OnnxModel, builder: GraphBuilder, options: ImportOptions) -> None:
        self.builder = builder
        self._model, self._options = model, options
        self._functions = FunctionLibrary(model.functions)
        self._nested: dict[int, tuple[OnnxTensor, TensorID]] = {}
        self._depth = self._converted = 0

    def run(self) -> ExecutionGraph:
        """Convert the main graph."""
        graph = self._model.graph
        inputs = InputReader(graph, self._options, self.builder)
        scope: dict[str, TensorID | None] = {}
        for record in graph.initializers:
            if record.name not in self._options.constants:
                scope[record.name] = add_initializer(self.builder, record)
        for value in graph.inputs:
            if value.name not in scope:
                scope[value.name] = inputs.add(value)
        self.nodes(graph, scope, self._opsets())
        for value in graph.outputs:
            tensor = scope.get(value.name)
            if tensor is None:
                raise InputShapeUnknown(input=value.name, reason="the output has no dense tensor value")
            self._note_type(value, tensor)
            self.builder.output(value.name, tensor)
        return self.builder.build()

    def _note_type(self, value: OnnxValueInfo, tensor: TensorID) -> None:
        """Whoever reads the file expects the declared type; metadata and results have the computed one."""
        declared, found = DTYPES.get(value.elem_type or 0), self.builder.type_of(tensor).dtype
        if declared is not None and declared is not found:
            detail = (
                f"the file declares {declared.value}; its nodes give {found.value}, which is what is served"
            )
            self.builder.note(f"output {value.name}", detail)

    def _opsets(self) -> Mapping[str, int]:
        """The opset of each domain. A later one may mean something else by an operator of the same name."""
        opsets = dict(self._model.opset_imports)
        opset = max(opsets.get("", 0), opsets.get("ai.onnx", 0))
        if opset > NEWEST_OPSET:
            raise OpsetTooNew(opset=opset, newest=NEWEST_OPSET)
        return opsets

    # -- nodes ---------------------------------------------------------------------------------------------

    def nodes(
        self,
        graph: OnnxGraph | OnnxFunction,
        scope: dict[str, TensorID | None],
        opsets: Mapping[str, int],
    ) -> None:
        """Convert nodes in topological order, adding their results to `scope`."""
        for record in order_nodes(graph.nodes, graph.name):
            self._count(record)
            results = self._convert(record, scope, opsets)
            for name, tensor in zip(record.outputs, results, strict=False):
                if name:
                    scope[name] = tensor

    def _count(self, record: OnnxNode) -> None:
        """Bodies of functions and loops multiply: what is inlined counts like what is written."""
        self._converted += 1
        allowed = self._options.limits.nodes
        if self._converted > allowed:
            place = f"the model with its bodies inlined, at {record.op_type} {record.name!r},"
            raise ImportLimitError(
                file=self.builder.name, place=place, limit="nodes", found=self._converted, allowed=allowed
            )

    def subgraph(
        self,
        graph: OnnxGraph,
        outer: Mapping[str, TensorID | None],
        arguments: Sequence[TensorID | None],
        opsets: Mapping[str, int],
    ) -> tuple[TensorID | None, ...]:
        """Inline a nested graph that sees the values of `outer`; its outputs."""
        scope = dict(outer)
        for record in graph.initializers:
            scope[record.name] = self._nested_initializer(record)
        scope.update(zip((v.name for v in graph.inputs), arguments, strict=False))
        self.nodes(graph, scope, opsets)
        return tuple(scope.get(v.name) for v in graph.outputs)

    def _nested_initializer(self, record: OnnxTensor) -> TensorID:
        """A constant of a nested graph: one, however often the graph is inlined."""
        if id(record) not in self._nested:
            self._nested[id(record)] = (record, add_initializer(self.builder, record))
        return self._nested[id(record)][1]

    def _convert(
        self, record: OnnxNode, scope: dict[str, TensorID | None], opsets: Mapping[str, int]
    ) -> Sequence[TensorID | None]:
        domain = "" if record.domain == "ai.onnx" else record.domain
        opset = opsets.get(domain, opsets.get("ai.onnx", 1) if domain == "" else 1)
        label = record.name or (record.outputs[0] if record.outputs else record.op_type)
        inputs = tuple(scope.get(name) if name else None for name in record.inputs)
        attributes = {a.name: a.value for a in record.attributes if a.value is not None}
        view = NodeView(record, label, opset, inputs, self.builder, attributes)
        self.builder.source(label)
        local = self._functions.find_local(record)
        if local is None:
            _verify_arity(view, find_arity(domain, record.op_type, opset))
        converter = None if local is not None else find_converter(domain, record.op_type, opset)
        try:
            if record.op_type in CONTROL_FLOW and domain == "":
                return resolve_control_flow(self, view, scope, opsets)
            if converter is not None:
                return _as_tuple(converter(view))
            body = local or self._functions.find_standard(record, opset, inputs, self.builder)
            if body is None:
                raise OperatorUnsupported(
                    node=label, operator=record.op_type, domain=domain, opset=opset,
                    needed=needed_for(record.op_type, domain),
                )  # fmt: skip
            return self._expand(body, view)
        except (ShapeRefused, DTypeRefused, AttributeRefused) as error:
            raise NodeRefused(
                node=label, operator=record.op_type, domain=domain, opset=opset, reason=error.message
            ) from error

    def _expand(self, body: OnnxFunction, view: NodeView) -> Sequence[TensorID | None]:
        """Inline a function body with this node's operands and attributes."""
        if self._depth >= MAX_EXPANSION_DEPTH:
            view.refuse("its function bodies are nested too deeply")
        scope: dict[str, TensorID | None] = dict(
            zip(body.inputs, (*view.inputs, *[None] * len(body.inputs)), strict=False)
        )
        opsets = {**self._model.opset_imports, **body.opset_imports}
        self._depth += 1
        try:
            self.nodes(bind_attributes(body, view.record.attributes), scope, opsets)
        finally:
            self._depth -= 1
        return [scope.get(name) for name in body.outputs]


def _verify_arity(view: NodeView, arity: tuple[int, int]) -> None:
    """The number of operands is one that the standard allows."""
    fewest, most = arity
    count = len(view.record.inputs)
    if not fewest <= count <= most:
        wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
        view.refuse(f"it has {count} inputs, {wanted} are needed")


def _as_tuple(converted: Converted) -> Sequence[TensorID | None]:
    return (TensorID(converted),) if isinstance(converted, str) else converted
