"""The two small networks of the demonstration."""

from __future__ import annotations

import numpy as np

from plumbline.product.demo_models.onnx_writer import OnnxWriter

__all__ = ["ECHO_WIDTH", "write_echo", "write_random_cnn"]

ECHO_WIDTH = 16
_SEED = 20260101


def write_echo() -> bytes:
    """The null model: `y = x`, float32 `[rows, 16]`. What is left is the cost of serving."""
    writer = OnnxWriter(name="echo", inputs={"x": ["rows", ECHO_WIDTH]}, outputs={"y": ["rows", ECHO_WIDTH]})
    writer.node("Identity", ["x"], "y")
    return writer.model()


def write_random_cnn() -> bytes:
    """Shape of a classifier of 28 x 28 grey images, weights from a seed: it has learnt nothing.

    `image` float32 `[rows, 1, 28, 28]` to `probabilities` float32 `[rows, 10]`.
    """
    rng = np.random.default_rng(_SEED)
    writer = OnnxWriter(
        name="random-cnn", inputs={"image": ["rows", 1, 28, 28]}, outputs={"probabilities": ["rows", 10]}
    )

    def weights(name: str, *shape: int) -> str:
        spread = np.sqrt(2.0 / np.prod(shape[1:]))
        return writer.weight(name, rng.standard_normal(shape).astype(np.float32) * np.float32(spread))

    x = "image"
    for number, (inputs, filters) in enumerate(((1, 8), (8, 16))):
        bias = writer.weight(f"bias{number}", rng.standard_normal(filters).astype(np.float32) * 0.1)
        operands = [x, weights(f"filters{number}", filters, inputs, 3, 3), bias]
        x = writer.node("Conv", operands, f"conv{number}", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        x = writer.node("Relu", [x], f"relu{number}")
        x = writer.node("MaxPool", [x], f"pool{number}", kernel_shape=[2, 2], strides=[2, 2])
    x = writer.node("Flatten", [x], "features", axis=1)
    operands = [x, weights("classes", 10, 784), writer.weight("offsets", np.zeros(10, np.float32))]
    x = writer.node("Gemm", operands, "scores", transB=1)
    writer.node("Softmax", [x], "probabilities", axis=1)
    return writer.model()
