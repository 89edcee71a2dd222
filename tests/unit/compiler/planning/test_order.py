"""Operator order: legal, deterministic, and better than the program order where that pays."""

from __future__ import annotations

import random

import pytest

from plumbline.compiler.planning.order import GraphCycleError, InvalidNodeError, OrderNode, plan_order


def node(
    name: str, index: int, inputs: str, *outputs: tuple[str, int], after: tuple[str, ...] = ()
) -> OrderNode:
    return OrderNode(name=name, index=index, inputs=tuple(inputs.split()), outputs=outputs, after=after)


def branches(count: int) -> list[OrderNode]:
    """All wide values first, then all their reductions: the worst order for memory."""
    wide = [node(f"wide{i}", i, "x", (f"w{i}", 65536)) for i in range(count)]
    narrow = [node(f"narrow{i}", count + i, f"w{i}", (f"n{i}", 256)) for i in range(count)]
    last = node("join", 2 * count, " ".join(f"n{i}" for i in range(count)), ("y", 256))
    return [*wide, *narrow, last]


def random_graph(seed: int) -> list[OrderNode]:
    rng = random.Random(seed)
    nodes, values = [], ["x"]
    for index in range(rng.randrange(1, 60)):
        inputs = " ".join(rng.sample(values, rng.randrange(1, min(3, len(values)) + 1)))
        nodes.append(node(f"n{index}", index, inputs, (f"v{index}", rng.randrange(1, 100_000))))
        values.append(f"v{index}")
    return nodes


def peak_by_definition(nodes: list[OrderNode], names: tuple[str, ...]) -> int:
    """Largest aligned sum of the values that are made by or before a step and used by or after it."""
    at = {name: step for step, name in enumerate(names)}
    lives = []
    for made in nodes:
        for value, size_bytes in made.outputs:
            last = max([at[n.name] for n in nodes if value in n.inputs] + [at[made.name]])
            lives.append((at[made.name], last, -(-size_bytes // 256) * 256))
    return max(
        sum(size for first, last, size in lives if first <= step <= last) for step in range(len(names))
    )


def test_wide_branches_are_reduced_one_after_the_other() -> None:
    order = plan_order(branches(8), outputs=["y"])
    assert dict(order.candidates)["program"] >= 8 * 65536
    assert order.peak_bytes <= 65536 + 9 * 256
    assert order.strategy != "program"


def test_the_program_order_stays_when_nothing_is_gained() -> None:
    nodes = [node(f"n{i}", i, f"v{i}", (f"v{i + 1}", 100)) for i in range(10)]
    order = plan_order(nodes)
    assert order.strategy == "program"
    assert order.names == tuple(f"n{i}" for i in range(10))


@pytest.mark.parametrize("seed", range(25))
def test_the_order_is_legal_and_its_peak_is_what_it_says(seed: int) -> None:
    nodes = random_graph(seed)
    order = plan_order(nodes)
    assert sorted(order.names) == sorted(n.name for n in nodes)
    seen: set[str] = {"x"}
    by_name = {n.name: n for n in nodes}
    for name in order.names:
        assert set(by_name[name].inputs) <= seen
        seen.update(value for value, _ in by_name[name].outputs)
    assert order.peak_bytes == peak_by_definition(nodes, order.names) == min(dict(order.candidates).values())


def test_insertion_order_changes_nothing_in_a_hundred_rebuilds() -> None:
    """L2-20."""
    nodes = random_graph(7)
    expected = plan_order(nodes)
    for seed in range(100):
        shuffled = list(nodes)
        random.Random(seed).shuffle(shuffled)
        assert plan_order(shuffled) == expected


def test_an_order_without_values_is_kept() -> None:
    nodes = [node("write", 0, "", ("a", 8), after=("read",)), node("read", 1, "", ("b", 8))]
    assert plan_order(nodes).names == ("read", "write")


def test_a_view_keeps_its_base_alive_and_costs_nothing() -> None:
    nodes = [
        node("make", 0, "x", ("a", 1024)),
        node("view", 1, "a", ("v", 1024)),
        node("use", 2, "v", ("y", 256)),
    ]
    assert plan_order(nodes, views={"v": "a"}, outputs=["y"]).peak_bytes == 1024 + 256


def test_a_cycle_is_refused_with_the_nodes_on_it() -> None:
    nodes = [
        node("first", 0, "x", ("a", 1)),
        node("left", 1, "a c", ("b", 1)),
        node("right", 2, "b", ("c", 1)),
        node("behind", 3, "c", ("d", 1)),
    ]
    with pytest.raises(GraphCycleError) as caught:
        plan_order(nodes)
    assert sorted(caught.value.nodes) == ["left", "right"]


@pytest.mark.parametrize(
    "nodes",
    [
        [node("a", 0, "", ("v", 1)), node("a", 1, "", ("w", 1))],
        [node("a", 0, "", ("v", 1)), node("b", 0, "", ("w", 1))],
        [node("a", 0, "", ("v", 1)), node("b", 1, "", ("v", 1))],
        [node("a", 0, "", ("v", 1), after=("nobody",))],
    ],
    ids=["name", "index", "value", "after"],
)
def test_an_ambiguous_node_is_refused(nodes: list[OrderNode]) -> None:
    with pytest.raises(InvalidNodeError):
        plan_order(nodes)


def test_twenty_thousand_nodes_in_a_deep_chain_need_no_recursion() -> None:
    """L2-31."""
    nodes = [node(f"n{i}", i, f"v{i}", (f"v{i + 1}", 100)) for i in range(20_000)]
    assert plan_order(nodes).peak_bytes == 512
