"""Split a placed graph into connected parts that can run one after another.

A node's level is the largest number of changes of backend on a path to it. Nodes of one backend and level
joined by tensors form a part. So a tensor that leaves a part always goes to a higher level, and parts
cannot wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plumbline.compiler.graph.graph import ExecutionGraph, OperatorNode, TensorEdge, TensorID
from plumbline.compiler.graph.verify import verify
from plumbline.compiler.partitioning.selection import signature_of_node
from plumbline.execution.backend import GraphPart, PartNode
from plumbline.execution.partitioned_record import Placement

__all__ = ["as_graph", "split_graph"]


def split_graph(graph: ExecutionGraph, placements: Sequence[Placement]) -> tuple[tuple[GraphPart, str], ...]:
    """Parts with their backends, in an order in which producers come first.

    Args:
        graph: verified graph.
        placements: one for each node, in graph order.
    """
    backend_of = {p.node: p.backend for p in placements}
    levels = _levels(graph, backend_of)
    groups = _connected(graph, backend_of, levels)
    ordered = sorted(groups, key=lambda g: (levels[g[0].name], graph.nodes.index(g[0])))
    return tuple(
        (_part(f"part{number}", nodes, graph), backend_of[nodes[0].name])
        for number, nodes in enumerate(ordered)
    )


def as_graph(part: GraphPart) -> ExecutionGraph:
    """A part as a verified graph whose inputs and outputs are named after their tensors."""
    graph = ExecutionGraph(
        name=part.name,
        symbols=part.symbols,
        nodes=tuple(
            OperatorNode(
                name=n.name, operation=n.signature.operation,
                inputs=tuple(None if t is None else TensorID(t) for t in n.inputs),
                outputs=tuple(TensorID(t) for t in n.outputs), attributes=n.signature.attributes,
                sources=n.sources,
            )
            for n in part.nodes
        ),
        tensors={TensorID(t): TensorEdge(id=TensorID(t), type=type_) for t, type_ in part.types.items()},
        constants={TensorID(t): constant for t, constant in part.constants.items()},
        inputs={t: TensorID(t) for t in part.inputs},
        outputs={t: TensorID(t) for t in part.outputs},
    )  # fmt: skip
    verify(graph)
    return graph


def _levels(graph: ExecutionGraph, backend_of: Mapping[str, str]) -> dict[str, int]:
    levels: dict[str, int] = {}
    for node in graph.nodes:
        own = backend_of[node.name]
        producers = _producers(node, graph)
        levels[node.name] = max((levels[p.name] + (backend_of[p.name] != own) for p in producers), default=0)
    return levels


def _producers(node: OperatorNode, graph: ExecutionGraph) -> list[OperatorNode]:
    return [graph.producers[t] for t in node.inputs if t is not None and t in graph.producers]


def _connected(
    graph: ExecutionGraph, backend_of: Mapping[str, str], levels: Mapping[str, int]
) -> list[list[OperatorNode]]:
    """Nodes of one backend and level that are joined, by union of each node with such producers."""
    leader = {node.name: node.name for node in graph.nodes}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = name = leader[leader[name]]
        return name

    for node in graph.nodes:
        for producer in _producers(node, graph):
            same = (backend_of[producer.name], levels[producer.name]) == (
                backend_of[node.name], levels[node.name],
            )  # fmt: skip
            if same:
                leader[find(node.name)] = find(producer.name)
    groups: dict[str, list[OperatorNode]] = {}
    for node in graph.nodes:
        groups.setdefault(find(node.name), []).append(node)
    return list(groups.values())


def _part(name: str, nodes: Sequence[OperatorNode], graph: ExecutionGraph) -> GraphPart:
    made = {t for node in nodes for t in node.outputs}
    read = dict.fromkeys(t for node in nodes for t in node.inputs if t is not None and t not in made)
    inside = {node.name for node in nodes}
    wanted = set(graph.outputs.values())
    outputs = tuple(
        t
        for node in nodes
        for t in node.outputs
        if t in wanted or any(reader.name not in inside for reader in graph.consumers.get(t, ()))
    )
    return GraphPart(
        name=name,
        symbols=dict(graph.symbols),
        nodes=tuple(
            PartNode(
                name=n.name, signature=signature_of_node(n, graph), inputs=n.inputs, outputs=n.outputs,
                sources=n.sources,
            )
            for n in nodes
        ),
        types={t: graph.type_of(t) for t in (*read, *(t for n in nodes for t in n.outputs))},
        inputs=tuple(t for t in read if t not in graph.constants),
        outputs=outputs,
        constants={t: graph.constants[t] for t in read if t in graph.constants},
    )  # fmt: skip
