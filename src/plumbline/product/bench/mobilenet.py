"""MobileNetV2 (Sandler et al., 2018, table 2) at 224 x 224 with random weights; ReLU6 is a Clip."""

from __future__ import annotations

from plumbline.product.bench.graph_writer import GraphWriter

__all__ = ["write_mobilenet_v2"]

BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""(expansion, channels, repeats, stride of the first)."""


def write_mobilenet_v2() -> bytes:
    """The classifier with 1000 classes."""
    g = GraphWriter("mobilenet-v2")
    limits = (g.scalar(0.0), g.scalar(6.0))
    x, channels = g.node("Clip", g.convolution("input", 3, 32, 3, stride=2), *limits), 32
    for expansion, filters, repeats, first_stride in BLOCKS:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            y = _project(g, x, channels, filters, expansion, stride, limits)
            x = g.node("Add", x, y) if stride == 1 and channels == filters else y
            channels = filters
    x = g.node("Clip", g.convolution(x, channels, 1280, 1), *limits)
    x = g.node("ReduceMean", x, axes=[2, 3], keepdims=0)
    x = g.node("Gemm", x, g.random(1000, 1280, fan_in=2560), g.uniform(-0.1, 0.1, 1000), transB=1)
    return g.bytes({"input": ("float32", (1, 3, 224, 224))}, {x: ("float32", (1, 1000))})


def _project(
    g: GraphWriter, x: str, channels: int, filters: int, expansion: int, stride: int, limits: tuple[str, str]
) -> str:
    """Expand, filter each channel, project."""
    wide = channels * expansion
    if expansion > 1:
        x = g.node("Clip", g.convolution(x, channels, wide, 1), *limits)
    x = g.node("Clip", g.convolution(x, wide, wide, 3, stride=stride, groups=wide), *limits)
    return g.convolution(x, wide, filters, 1)
