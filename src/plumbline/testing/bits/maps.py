"""Random networks of pointwise operators with every way of broadcasting, around matrix products and sums."""

from __future__ import annotations

import numpy as np

from plumbline.testing.bits.network import Network, NetworkWriter, input_rows

__all__ = ["random_map_network"]

EXTENTS = (1, 2, 5, 8, 17, 32)
BINARY = ("Add", "Mul", "Sub", "Max", "Min")
UNARY = ("Relu", "Sigmoid", "Tanh", "Neg", "Abs", "Softsign", "Elu")
MOST_STEPS = 9


def random_map_network(seed: int, *, batch: int = 3, is_batched: bool = False) -> Network:
    """Maps over [batch, T, D] with operands of any shape that broadcasts, products with [D, D'] and means.

    Args:
        seed: decides everything.
        batch: rows of the inputs.
        is_batched: whether the number of rows is a symbol.
    """
    rng = np.random.default_rng(seed)
    w = NetworkWriter(f"maps{seed}", rng)
    tokens, depth = (int(EXTENTS[int(rng.integers(len(EXTENTS)))]) for _ in range(2))
    inputs = {
        "x": input_rows(f"x{seed}", (batch, tokens, depth)),
        "z": input_rows(f"z{seed}", (batch, 1, depth)),
    }
    known = {"x": (tokens, depth), "z": (1, depth)}
    name = "x"
    for _ in range(int(rng.integers(2, MOST_STEPS + 1))):
        source = name if rng.random() < 0.8 else list(known)[int(rng.integers(len(known)))]
        t, d = known[source]
        kind = rng.random()
        if kind < 0.25:
            name = w.node(UNARY[int(rng.integers(len(UNARY)))], source)
        elif kind < 0.55:
            name = w.node(BINARY[int(rng.integers(len(BINARY)))], *_shuffled(rng, source, _operand(w, t, d)))
        elif kind < 0.75:
            fitting = [n for n, (a, b) in known.items() if a in (1, t) and b in (1, d)]
            other = fitting[int(rng.integers(len(fitting)))] if fitting else source
            name = w.node(BINARY[int(rng.integers(len(BINARY)))], *_shuffled(rng, source, other))
        elif kind < 0.9:
            d = int(EXTENTS[int(rng.integers(len(EXTENTS)))])
            name = w.node("MatMul", source, w.weights(known[source][1], d, scale=known[source][1] ** -0.5))
        else:
            axis = int(rng.integers(1, 3))
            name = w.node("ReduceMean", source, w.constant(np.array([axis], np.int64)), keepdims=1)
            t, d = (1, d) if axis == 1 else (t, 1)
        known[name] = (t, d)
    made = [n for n in known if n not in inputs]
    outputs = {made[-1]: 3, made[int(rng.integers(len(made)))]: 3}
    return w.finish(inputs, outputs, is_batched=is_batched)


def _operand(w: NetworkWriter, tokens: int, depth: int) -> str:
    """A constant that broadcasts to [N, tokens, depth]."""
    shapes = ((), (1,), (depth,), (1, depth), (1, 1, depth), (tokens, 1), (tokens, depth), (1, tokens, 1))
    shape = shapes[int(w.rng.integers(len(shapes)))]
    return w.constant(w.rng.uniform(-1.5, 1.5, shape).astype(np.float32))


def _shuffled(rng: np.random.Generator, a: str, b: str) -> tuple[str, str]:
    return (a, b) if rng.random() < 0.5 else (b, a)
