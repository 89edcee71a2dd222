"""Small models of the suite: a multilayer perceptron, a keyword-spotting network and a recurrent one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from plumbline.product.bench.graph_writer import GraphWriter

__all__ = ["write_edge_cnn", "write_gru", "write_mlp"]


def write_mlp() -> bytes:
    """64 -> 256 -> 256 -> 10 with ReLU, batch 1."""
    g = GraphWriter("mlp")
    x, sizes = "input", (64, 256, 256, 10)
    for layer, (rows, columns) in enumerate(pairwise(sizes)):
        weight = g.random(columns, rows)
        x = g.node("Gemm", x, weight, g.uniform(-0.1, 0.1, columns), transB=1)
        if layer < len(sizes) - 2:
            x = g.node("Relu", x)
    return g.bytes({"input": ("float32", (1, 64))}, {x: ("float32", (1, 10))})


def write_edge_cnn() -> bytes:
    """Depthwise-separable network over a 40 x 40 spectrogram, 12 classes."""
    g = GraphWriter("edge-cnn")
    x = g.node("Relu", g.convolution("input", 1, 32, 3, stride=2))
    channels = 32
    for filters, stride in ((32, 1), (64, 2), (64, 1), (64, 1)):
        x = g.node("Relu", g.convolution(x, channels, channels, 3, stride=stride, groups=channels))
        x = g.node("Relu", g.convolution(x, channels, filters, 1))
        channels = filters
    x = g.node("ReduceMean", x, axes=[2, 3], keepdims=0)
    x = g.node("Gemm", x, g.random(12, channels), g.uniform(-0.1, 0.1, 12), transB=1)
    x = g.node("Softmax", x, axis=-1)
    return g.bytes({"input": ("float32", (1, 1, 40, 40))}, {x: ("float32", (1, 12))})


def write_gru() -> bytes:
    """A gated recurrent unit of 64 over 16 steps of 32 values, and a classifier of its last state."""
    steps, inputs, hidden = 16, 32, 64
    g = GraphWriter("gru")
    x = g.node("Transpose", "input", perm=[1, 0, 2])
    bound = float(1 / np.sqrt(hidden))
    weights = [
        g.uniform(-bound, bound, 1, 3 * hidden, inputs),
        g.uniform(-bound, bound, 1, 3 * hidden, hidden),
        g.uniform(-bound, bound, 1, 6 * hidden),
    ]
    start = g.constant(np.zeros((1, 1, hidden), np.float32))
    _, last = g.nodes("GRU", (x, *weights, "", start), 2, hidden_size=hidden, linear_before_reset=1)
    last = g.node("Gather", last, g.constant(np.array(0, np.int64)), axis=0)
    y = g.node("Gemm", last, g.random(8, hidden), g.uniform(-0.1, 0.1, 8), transB=1)
    return g.bytes({"input": ("float32", (1, steps, inputs))}, {y: ("float32", (1, 8))})
