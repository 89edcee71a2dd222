"""Random small image networks: what the fast path of images must get right, in odd sizes and odd orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from plumbline.testing.bits.network import Network, NetworkWriter, input_rows

__all__ = ["random_image_network"]

T = TypeVar("T")
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 20, 24, 31, 32, 33, 48)
PLAIN_ACTIVATIONS = {
    "relu": "Relu", "hardswish": "HardSwish", "leaky": "LeakyRelu", "tanh": "Tanh", "elu": "Elu",
}  # fmt: skip
MOST_STEPS = 8
WIDE_CHANNELS = (3, 16, 24, 31, 40, 64, 96, 100, 130)
LEAST_EXTENT, MOST_EXTENT, WIDE_EXTENT = 1, 13, 34


@dataclass(frozen=True, slots=True)
class _Image:
    name: str
    channels: int
    height: int
    width: int

    @property
    def extents(self) -> tuple[int, int]:
        return self.height, self.width


def random_image_network(
    seed: int, *, batch: int = 2, is_batched: bool = False, is_wide: bool = False
) -> Network:
    """A network of convolutions, pools, sums, concatenations and channel scales over [batch, C, H, W].

    Args:
        seed: decides everything.
        batch: images of the inputs.
        is_batched: whether the number of images is a symbol.
        is_wide: many channels and pixels, so that planes and panels have several tiles.
    """
    return _Maker(seed, is_wide).make(batch, is_batched)


class _Maker:
    def __init__(self, seed: int, is_wide: bool) -> None:
        self.channels = WIDE_CHANNELS if is_wide else CHANNELS
        self.most_extent = WIDE_EXTENT if is_wide else MOST_EXTENT
        self.rng = np.random.default_rng(seed)
        self.writer = NetworkWriter(f"images{seed}", self.rng)
        self.images: list[_Image] = []

    def make(self, batch: int, is_batched: bool) -> Network:
        channels = self._pick(self.channels)
        low, high = self._pick(((LEAST_EXTENT, 3), (3, self.most_extent), (5, self.most_extent)))
        height, width = (int(self.rng.integers(low, high + 1)) for _ in range(2))
        x = input_rows(self.writer.name, (batch, channels, height, width))
        self.images.append(_Image("x", channels, height, width))
        steps = (
            self._convolution, self._convolution, self._convolution, self._pool, self._pool, self._join,
            self._concatenation, self._squeeze, self._channel_scale, self._shuffle, self._activation,
        )  # fmt: skip
        for _ in range(int(self.rng.integers(2, MOST_STEPS + 1))):
            made = self._pick(steps)(self._source())
            if made is not None:
                self.images.append(made)
        return self.writer.finish({"x": x}, self._outputs(), is_batched=is_batched)

    def _outputs(self) -> dict[str, int]:
        made = self.images[1:] or [self._activation(self.images[0])]
        outputs = {made[-1].name: 4}
        if self._chance(0.4):
            outputs[self._pick(made).name] = 4
        if self._chance(0.4):
            outputs[self._classifier(made[-1])] = 2
        return outputs

    def _classifier(self, image: _Image) -> str:
        w = self.writer
        pooled = w.node("GlobalAveragePool", image.name)
        flat = w.node("Flatten", pooled, axis=1)
        scores = w.node("Gemm", flat, w.weights(10, image.channels), w.weights(10), transB=1)
        return w.node("Softmax", scores, axis=-1)

    # -- steps ----------------------------------------------------------------------------------------------

    def _convolution(self, x: _Image) -> _Image | None:
        w, rng = self.writer, self.rng
        kernel = self._pick(((1, 1), (3, 3), (2, 3), (5, 1), (3, 3)))
        strides = self._pick(((1, 1), (1, 1), (2, 2), (1, 2)))
        dilations = self._pick(((1, 1), (1, 1), (2, 1), (2, 2)))
        pads = self._pads(kernel, dilations)
        height, width = self._extents(x, kernel, strides, dilations, pads, False)
        if height < 1 or width < 1:
            return None
        groups, filters = self._groups(x.channels)
        inputs = [x.name, w.weights(filters, x.channels // groups, *kernel)]
        if self._chance(0.6):
            inputs.append(w.weights(filters))
        window = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": pads}
        y = w.node("Conv", *inputs, group=groups, **window)
        if self._chance(0.4):
            low = [rng.uniform(0.5, 1.5, filters), rng.uniform(-0.3, 0.3, filters)]
            rest = [rng.uniform(-0.3, 0.3, filters), rng.uniform(0.5, 1.5, filters)]
            y = w.node("BatchNormalization", y, *(w.constant(a.astype(np.float32)) for a in (*low, *rest)))
        image = _Image(y, filters, height, width)
        return self._activation(image) if self._chance(0.7) else image

    def _groups(self, channels: int) -> tuple[int, int]:
        """Groups and filters: dense, depthwise (perhaps with a multiplier), or any divisor."""
        kind = self._pick(("dense", "dense", "depthwise", "grouped"))
        if kind == "dense":
            return 1, self._pick(self.channels)
        divisors = [g for g in range(2, channels + 1) if channels % g == 0] or [1]
        groups = channels if kind == "depthwise" else self._pick(divisors)
        return groups, groups * self._pick((1, 1, 1, 2, 3))

    def _pool(self, x: _Image) -> _Image | None:
        kernel = self._pick(((2, 2), (3, 3), (3, 2), (1, 2)))
        strides = self._pick(((1, 1), (2, 2), (2, 1), (3, 2)))
        dilations = self._pick(((1, 1), (1, 1), (1, 2)))
        pads, up = self._pads(kernel, (1, 1)), self._chance(0.4)
        height, width = self._extents(x, kernel, strides, dilations, pads, up)
        out = (height, width)
        if min(out) < 1 or not self._is_whole(x, kernel, strides, dilations, pads, out):
            return None
        attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
        attributes |= {"pads": pads, "ceil_mode": int(up)}
        if self._chance(0.5):
            y = self.writer.node("MaxPool", x.name, **attributes)
        else:
            count = int(self._chance(0.4) and not up)
            y = self.writer.node("AveragePool", x.name, count_include_pad=count, **attributes)
        return _Image(y, x.channels, height, width)

    def _join(self, x: _Image) -> _Image | None:
        others = [i for i in self.images if (i.channels, *i.extents) == (x.channels, *x.extents)]
        y = self.writer.node(self._pick(("Add", "Add", "Mul", "Sub", "Max")), x.name, self._pick(others).name)
        image = _Image(y, x.channels, *x.extents)
        return self._activation(image) if self._chance(0.5) else image

    def _concatenation(self, x: _Image) -> _Image | None:
        others = [i for i in self.images if i.extents == x.extents]
        parts = [x, *(self._pick(others) for _ in range(int(self.rng.integers(1, 3))))]
        y = self.writer.node("Concat", *(p.name for p in parts), axis=self._pick((1, -3)))
        return _Image(y, sum(p.channels for p in parts), *x.extents)

    def _squeeze(self, x: _Image) -> _Image:
        """Scale channels by what a small network says of their means."""
        w, inner = self.writer, max(x.channels // 4, 1)
        if self._chance(0.5):
            y = w.node("GlobalAveragePool", x.name)
        else:
            y = w.node("ReduceMean", x.name, w.constant(np.array([2, 3], np.int64)), keepdims=1)
        y = w.node("Conv", y, w.weights(inner, x.channels, 1, 1), w.weights(inner))
        y = w.node("Conv", w.node("Relu", y), w.weights(x.channels, inner, 1, 1), w.weights(x.channels))
        y = w.node(self._pick(("Sigmoid", "HardSigmoid")), y)
        parts = [x.name, y] if self._chance(0.5) else [y, x.name]
        return _Image(w.node("Mul", *parts), x.channels, *x.extents)

    def _channel_scale(self, x: _Image) -> _Image:
        w = self.writer
        shape = self._pick(((x.channels, 1, 1), (1, x.channels, 1, 1), (1,), ()))
        operand = w.constant(self.rng.uniform(0.5, 1.5, shape).astype(np.float32))
        kind = self._pick(("Mul", "Add", "Sub", "Div"))
        parts = [operand, x.name] if kind != "Div" and self._chance(0.5) else [x.name, operand]
        return _Image(w.node(kind, *parts), x.channels, *x.extents)

    def _shuffle(self, x: _Image) -> _Image:
        w = self.writer
        groups = self._pick([g for g in range(1, x.channels + 1) if x.channels % g == 0])
        split = w.constant(np.array([0, groups, x.channels // groups, *x.extents], np.int64))
        joined = w.constant(np.array([0, x.channels, *x.extents], np.int64))
        y = w.node("Transpose", w.node("Reshape", x.name, split), perm=[0, 2, 1, 3, 4])
        return _Image(w.node("Reshape", y, joined), x.channels, *x.extents)

    def _activation(self, x: _Image) -> _Image:
        w = self.writer
        kind = self._pick(("relu", "relu6", "hardswish", "silu", "gelu", "leaky", "tanh", "elu", "prelu"))
        match kind:
            case "relu6":
                y = w.node("Clip", x.name, *(w.constant(np.array(v, np.float32)) for v in (0, 6)))
            case "silu":
                y = w.node("Mul", x.name, w.node("Sigmoid", x.name))
            case "gelu":
                scaled = w.node("Mul", x.name, w.constant(np.array(2**-0.5, np.float32)))
                half = w.node("Mul", x.name, w.constant(np.array(0.5, np.float32)))
                erf = w.node("Add", w.node("Erf", scaled), w.constant(np.array(1.0, np.float32)))
                y = w.node("Mul", half, erf)
            case "prelu":
                y = w.node("PRelu", x.name, w.weights(x.channels, 1, 1, scale=0.3))
            case _:
                y = w.node(PLAIN_ACTIVATIONS[kind], x.name)
        return _Image(y, x.channels, *x.extents)

    # -- choices --------------------------------------------------------------------------------------------

    def _source(self) -> _Image:
        return self.images[-1] if self._chance(0.7) else self._pick(self.images)

    def _pads(self, kernel: tuple[int, int], dilations: tuple[int, int]) -> tuple[int, int, int, int]:
        """None, half the span on every side, or anything smaller than the kernel."""
        kind = self._pick(("none", "same", "same", "any"))
        if kind == "none":
            return 0, 0, 0, 0
        if kind == "same":
            top, left = (d * (k - 1) // 2 for d, k in zip(dilations, kernel, strict=True))
            return top, left, top, left
        top, left, bottom, right = (int(self.rng.integers(0, k)) for k in (*kernel, *kernel))
        return top, left, bottom, right

    def _extents(
        self, x: _Image, kernel: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int],
        pads: tuple[int, int, int, int], up: bool,
    ) -> tuple[int, int]:  # fmt: skip
        found = []
        for axis, extent in enumerate(x.extents):
            room = extent + pads[axis] + pads[2 + axis] - dilations[axis] * (kernel[axis] - 1) - 1
            steps = -(-room // strides[axis]) if up else room // strides[axis]
            if up and steps * strides[axis] >= extent + pads[axis]:
                steps -= 1
            found.append(steps + 1 if room >= 0 else 0)
        return found[0], found[1]

    def _is_whole(
        self, x: _Image, kernel: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int],
        pads: tuple[int, int, int, int], out: tuple[int, int],
    ) -> bool:  # fmt: skip
        """Whether every window holds a pixel of the image: an empty one has no maximum and no mean."""
        for axis, extent in enumerate(x.extents):
            for position in range(out[axis]):
                first = position * strides[axis] - pads[axis]
                taps = [first + k * dilations[axis] for k in range(kernel[axis])]
                if not any(0 <= t < extent for t in taps):
                    return False
        return True

    def _chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def _pick(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]
