"""The text form round-trips: same text, same hash, same results (L2-03)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.compiler.graph.graph import ExecutionGraph
from plumbline.compiler.graph.text import GraphTextRefused, format_graph, parse_graph
from plumbline.errors import PlumblineError
from plumbline.testing.interpreter import evaluate_graph

_spec = importlib.util.spec_from_file_location("random_graphs", Path(__file__).parent / "random_graphs.py")
assert _spec is not None
assert _spec.loader is not None
random_graphs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(random_graphs)


def constants_of(graph: ExecutionGraph) -> dict[str, object]:
    return {c.identity: c for c in graph.constants.values()}


@settings(max_examples=60)
@given(graph=random_graphs.graphs())
def test_text_reads_back_as_the_same_graph(graph: ExecutionGraph) -> None:
    text = format_graph(graph)
    again = parse_graph(text, constants_of(graph))  # type: ignore[arg-type]
    assert format_graph(again) == text
    assert again.digest == graph.digest
    assert [n.name for n in again.nodes] == [n.name for n in graph.nodes]
    inputs = random_graphs.inputs_of(3)
    for name, array in evaluate_graph(graph, inputs).items():
        np.testing.assert_array_equal(array, evaluate_graph(again, inputs)[name])


@settings(max_examples=150)
@given(graph=random_graphs.graphs(most=3), data=st.data())
def test_damaged_text_is_refused_with_a_typed_error_or_is_another_sound_graph(
    graph: ExecutionGraph, data: st.DataObject
) -> None:
    """Untrusted text never raises anything outside of the error tree."""
    text = format_graph(graph)
    position = data.draw(st.integers(0, len(text) - 1))
    junk = data.draw(st.sampled_from(["", "\n", '"', "(", "}", "%", "-1", "é", "10**9"]))
    damaged = text[:position] + junk + text[position + data.draw(st.integers(0, 9)) :]
    try:
        parse_graph(damaged, constants_of(graph))  # type: ignore[arg-type]
    except PlumblineError as error:
        assert error.code  # noqa: PT017 - both outcomes are right, the type is what is tested


def test_text_that_is_no_graph_is_refused_by_line() -> None:
    with pytest.raises(GraphTextRefused, match="line 1"):
        parse_graph("hello")
