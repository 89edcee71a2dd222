"""Random networks over rows: perceptrons, attention with its norms and softmax, and recurrent cells."""

from __future__ import annotations

import numpy as np

from plumbline.testing.bits.network import Network, NetworkWriter, input_rows

__all__ = ["random_attention_network", "random_perceptron", "random_recurrent_network"]

WIDTHS = (1, 3, 8, 15, 16, 17, 33, 48, 64, 70)
ACTIVATIONS = ("Relu", "Tanh", "Sigmoid", "HardSwish", "Softplus", "Elu")


def _pick(rng: np.random.Generator, options: tuple[int, ...]) -> int:
    return int(options[int(rng.integers(len(options)))])


def random_perceptron(seed: int, *, batch: int = 5, is_batched: bool = False) -> Network:
    """Matrix products with biases, activations, skips and a softmax, over [batch, K]."""
    rng = np.random.default_rng(seed)
    w = NetworkWriter(f"perceptron{seed}", rng)
    width = _pick(rng, WIDTHS)
    x = input_rows(w.name, (batch, width))
    name = "x"
    for _ in range(int(rng.integers(1, 5))):
        wide = _pick(rng, WIDTHS)
        if rng.random() < 0.5:
            y = w.node("Gemm", name, w.weights(wide, width), w.weights(wide), transB=1, alpha=0.5)
        else:
            product = w.node("MatMul", name, w.weights(width, wide, scale=width**-0.5))
            y = w.node("Add", product, w.weights(wide))
        y = w.node(ACTIVATIONS[int(rng.integers(len(ACTIVATIONS)))], y)
        name, width = (w.node("Add", y, name) if wide == width else y), wide
    if rng.random() < 0.5:
        name = w.node("Softmax", name, axis=-1)
    return w.finish({"x": x}, {name: 2}, is_batched=is_batched)


def random_attention_network(seed: int, *, batch: int = 3, is_batched: bool = False) -> Network:
    """One block of a transformer written out: norms, heads, softmax, a gelu network, over [batch, T, D]."""
    rng = np.random.default_rng(seed)
    w = NetworkWriter(f"attention{seed}", rng)
    heads, depth, tokens = _pick(rng, (1, 2, 3)), _pick(rng, (4, 7, 16)), _pick(rng, (1, 5, 9, 16))
    d = heads * depth
    x = input_rows(w.name, (batch, tokens, d))

    def norm(source: str) -> str:
        scale = w.constant(rng.uniform(0.5, 1.5, d).astype(np.float32))
        return w.node("LayerNormalization", source, scale, w.weights(d), axis=-1, epsilon=1e-5)

    def split(source: str, *perm: int) -> str:
        projected = w.node("Add", w.node("MatMul", source, w.weights(d, d, scale=d**-0.5)), w.weights(d))
        shape = w.constant(np.array([0, 0, heads, depth], np.int64))
        return w.node("Transpose", w.node("Reshape", projected, shape), perm=list(perm))

    normed = norm("x")
    q, k, v = split(normed, 0, 2, 1, 3), split(normed, 0, 2, 3, 1), split(normed, 0, 2, 1, 3)
    scores = w.node("Mul", w.node("MatMul", q, k), w.constant(np.array(depth**-0.5, np.float32)))
    mixed = w.node("Transpose", w.node("MatMul", w.node("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    flat = w.node("Reshape", mixed, w.constant(np.array([0, 0, d], np.int64)))
    y = w.node("Add", w.node("MatMul", flat, w.weights(d, d, scale=d**-0.5)), "x")
    inner = w.node("Add", w.node("MatMul", norm(y), w.weights(d, 2 * d, scale=d**-0.5)), w.weights(2 * d))
    erf = w.node("Erf", w.node("Mul", inner, w.constant(np.array(2**-0.5, np.float32))))
    gelu = w.node("Mul", inner, w.node("Add", erf, w.constant(np.array(1.0, np.float32))))
    halved = w.node("Mul", gelu, w.constant(np.array(0.5, np.float32)))
    y = w.node("Add", w.node("MatMul", halved, w.weights(2 * d, d, scale=(2 * d) ** -0.5)), y)
    mean = w.node("ReduceMean", y, w.constant(np.array([1], np.int64)), keepdims=0)
    return w.finish({"x": x}, {y: 3, mean: 2}, is_batched=is_batched)


def random_recurrent_network(seed: int, *, batch: int = 3, is_batched: bool = False) -> Network:
    """A GRU, LSTM or plain cell over [T, batch, I], given as [batch, T, I]."""
    rng = np.random.default_rng(seed)
    kind, gates = (("GRU", 3), ("LSTM", 4), ("RNN", 1))[int(rng.integers(3))]
    w = NetworkWriter(f"{kind.lower()}{seed}", rng)
    size, hidden, steps = _pick(rng, (1, 5, 16)), _pick(rng, (1, 7, 16, 33)), _pick(rng, (1, 4, 9))
    x = input_rows(w.name, (batch, steps, size))
    turned = w.node("Transpose", "x", perm=[1, 0, 2])
    directions = 2 if rng.random() < 0.5 else 1
    operands = [
        w.weights(directions, gates * hidden, size, scale=0.5),
        w.weights(directions, gates * hidden, hidden, scale=0.5 * hidden**-0.5),
        w.weights(directions, 2 * gates * hidden, scale=0.2),
    ]
    direction = "bidirectional" if directions == 2 else "forward"
    extra = {"linear_before_reset": int(rng.integers(2))} if kind == "GRU" else {}
    y = w.nodes(kind, [turned, *operands], 1, hidden_size=hidden, direction=direction, **extra)[0]
    back = w.node("Transpose", y, perm=[2, 0, 1, 3])
    return w.finish({"x": x}, {back: 4}, is_batched=is_batched)
