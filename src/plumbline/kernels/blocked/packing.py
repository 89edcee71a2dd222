"""The weight streams of blocked convolutions.

Packed("conv", (o, c, kh, kw, vectors, lanes)): for each panel of `vectors` output blocks: whole input blocks
[block][kh][kw][lane][panel column], then the input channels that do not fill a block
[kh][kw][channel][panel column].
Packed("conv_planar", same): for row-major inputs, [c][kh][kw][panel column] for each panel.
Packed("depthwise", (c, kh, kw, lanes)): [block][kh][kw][lane].
Packed("conv_grouped", (o, c, kh, kw, groups, lanes)): [entry][c][kh][kw][lane], see `grouped.group_entries`;
c counts the channels of one group.
Columns and lanes past the last channel are zero.
"""

from __future__ import annotations

import numpy as np

from plumbline.kernels.blocked.grouped import group_entries

__all__ = [
    "conv_elements",
    "depthwise_elements",
    "grouped_elements",
    "pack_conv",
    "pack_conv_planar",
    "pack_depthwise",
    "pack_grouped",
]


def conv_elements(parameters: tuple[int, ...]) -> int:
    """Floats of a `conv` or `conv_planar` stream."""
    o, c, kh, kw, vectors, lanes = parameters
    width = vectors * lanes
    return -(-o // width) * width * c * kh * kw


def _panels(weights: np.ndarray, vectors: int, lanes: int) -> np.ndarray:
    """[panels, width, C, KH, KW], outputs padded with zeros."""
    o = weights.shape[0]
    width = vectors * lanes
    count = -(-o // width)
    padded = np.zeros((count * width, *weights.shape[1:]), np.float32)
    padded[:o] = weights
    return padded.reshape(count, width, *weights.shape[1:])


def pack_conv(weights: np.ndarray, vectors: int, lanes: int) -> np.ndarray:
    """Pack [O, C, KH, KW] weights for blocked inputs."""
    panels = _panels(weights, vectors, lanes)
    count, width, c, kh, kw = panels.shape
    whole = c // lanes
    head = panels[:, :, : whole * lanes].reshape(count, width, whole, lanes, kh, kw)
    head = head.transpose(0, 2, 4, 5, 3, 1).reshape(count, -1)
    tail = panels[:, :, whole * lanes :].transpose(0, 3, 4, 2, 1).reshape(count, -1)
    return np.ascontiguousarray(np.concatenate([head, tail], axis=1)).reshape(-1)


def pack_conv_planar(weights: np.ndarray, vectors: int, lanes: int) -> np.ndarray:
    """Pack [O, C, KH, KW] weights for row-major inputs."""
    return np.ascontiguousarray(_panels(weights, vectors, lanes).transpose(0, 2, 3, 4, 1)).reshape(-1)


def depthwise_elements(parameters: tuple[int, ...]) -> int:
    """Floats of a `depthwise` stream."""
    c, kh, kw, lanes = parameters
    return -(-c // lanes) * lanes * kh * kw


def pack_depthwise(weights: np.ndarray, lanes: int) -> np.ndarray:
    """Pack [C, 1, KH, KW] weights."""
    c, _, kh, kw = weights.shape
    blocks = -(-c // lanes)
    padded = np.zeros((blocks * lanes, kh, kw), np.float32)
    padded[:c] = weights[:, 0]
    return np.ascontiguousarray(padded.reshape(blocks, lanes, kh, kw).transpose(0, 2, 3, 1)).reshape(-1)


def grouped_elements(parameters: tuple[int, ...]) -> int:
    """Floats of a `conv_grouped` stream."""
    o, c, kh, kw, groups, lanes = parameters
    return len(group_entries(o, groups, lanes)) * c * kh * kw * lanes


def pack_grouped(weights: np.ndarray, groups: int, lanes: int) -> np.ndarray:
    """Pack [O, C / groups, KH, KW] weights."""
    o = weights.shape[0]
    entries = group_entries(o, groups, lanes)
    stored = np.zeros((len(entries), *weights.shape[1:], lanes), np.float32)
    for position, entry in enumerate(entries):
        high = min(entry.block * lanes + entry.high, o)
        rows = weights[entry.block * lanes + entry.low : high]
        stored[position, ..., entry.low : entry.low + rows.shape[0]] = np.moveaxis(rows, 0, -1)
    return stored.reshape(-1)
