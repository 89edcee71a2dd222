"""How outputs are cut into register tiles, panels and groups: each exactly once, everything in registers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.kernels.blocked.grouped import group_entries
from plumbline.kernels.blocked.packing import (
    conv_elements,
    grouped_elements,
    pack_conv,
    pack_conv_planar,
    pack_grouped,
)
from plumbline.kernels.blocked.tiling import choose_grid, choose_tiling
from plumbline.kernels.emit.target import TARGETS, TargetDescription
from plumbline.kernels.emit.tile import even_split, widest_rows
from plumbline.kernels.gemm.kernel import choose_vectors
from plumbline.kernels.gemm.packing import PanelLayout, pack_gemm, unpack_gemm

EVERY_TARGET = st.sampled_from(tuple(TARGETS.values()))


@given(total=st.integers(1, 10_000), most=st.integers(1, 64))
def test_an_even_split_covers_the_total_with_pieces_that_differ_by_one(total: int, most: int) -> None:
    split = even_split(total, most)
    small = split.count - split.large_count
    assert split.large_count * split.large + small * (split.large - 1) == total
    assert split.large <= most
    assert split.count == -(-total // most)
    assert 0 < split.large_count <= split.count


@given(height=st.integers(1, 230), width=st.integers(1, 230), blocks=st.integers(1, 130), target=EVERY_TARGET)
def test_a_tiling_covers_the_plane_and_fits_the_registers(
    height: int, width: int, blocks: int, target: TargetDescription
) -> None:
    tiling = choose_tiling(height, width, blocks, target)
    grid, vectors = tiling.grid, tiling.vectors
    for split, extent in ((grid.rows, height), (grid.columns, width)):
        rest = split.count - split.large_count
        assert split.large_count * split.large + rest * (split.large - 1) == extent
    pixels = grid.rows.large * grid.columns.large
    assert blocks % vectors == 0
    assert pixels == 1 or pixels * vectors + vectors + target.spare_registers <= target.vector_registers
    assert len(grid.variants) <= 2


@given(rows=st.integers(1, 300), n=st.integers(1, 3000), target=EVERY_TARGET)
def test_a_matrix_tile_fits_the_registers(rows: int, n: int, target: TargetDescription) -> None:
    vectors = choose_vectors(rows, n, target)
    height = min(rows, widest_rows(vectors, target.vector_registers, target.spare_registers))
    assert 1 <= vectors <= -(-n // target.float_lanes)
    if height > 1:
        assert height * vectors + vectors + target.spare_registers <= target.vector_registers


@given(
    k=st.integers(1, 9), n=st.integers(1, 70), vectors=st.integers(1, 5), lanes=st.sampled_from((4, 8, 16))
)
def test_packed_matrices_unpack_to_themselves(k: int, n: int, vectors: int, lanes: int) -> None:
    layout = PanelLayout(k=k, n=n, vectors=vectors, lanes=lanes)
    weights = np.arange(1, k * n + 1, dtype=np.float32).reshape(k, n)
    stream = pack_gemm(weights, layout)
    assert stream.size == layout.elements
    np.testing.assert_array_equal(unpack_gemm(stream, layout), weights)
    assert np.count_nonzero(stream) == weights.size


@given(
    o=st.integers(1, 40), c=st.integers(1, 40), taps=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    vectors=st.integers(1, 4), lanes=st.sampled_from((4, 8, 16)),
)  # fmt: skip
def test_packed_convolutions_hold_every_weight_once_and_zeros(
    o: int, c: int, taps: tuple[int, int], vectors: int, lanes: int
) -> None:
    weights = np.arange(1, o * c * taps[0] * taps[1] + 1, dtype=np.float32).reshape(o, c, *taps)
    for pack in (pack_conv, pack_conv_planar):
        stream = pack(weights, vectors, lanes)
        assert stream.size == conv_elements((o, c, *taps, vectors, lanes))
        np.testing.assert_array_equal(np.sort(stream[stream != 0]), weights.reshape(-1))


@given(
    size=st.integers(1, 20), groups=st.integers(1, 20), c=st.integers(1, 5), lanes=st.sampled_from((4, 8, 16))
)
def test_group_entries_own_every_lane_exactly_once(size: int, groups: int, c: int, lanes: int) -> None:
    """Two entries that stored one lane would race; a lane without an entry would keep what memory held."""
    outputs = size * groups
    owners = np.zeros(-(-outputs // lanes) * lanes, np.int64)
    for entry in group_entries(outputs, groups, lanes):
        chosen = [lane for lane in range(lanes) if entry.mask >> lane & 1]
        assert chosen == list(range(entry.low, entry.high))
        for lane in chosen:
            channel = entry.block * lanes + lane
            owners[channel] += 1
            assert min(channel, outputs - 1) // size == entry.group
    assert (owners == 1).all()
    weights = np.arange(1, outputs * c + 1, dtype=np.float32).reshape(outputs, c, 1, 1)
    stream = pack_grouped(weights, groups, lanes)
    assert stream.size == grouped_elements((outputs, c, 1, 1, groups, lanes))
    np.testing.assert_array_equal(np.sort(stream[stream != 0]), weights.reshape(-1))


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_grids_of_narrow_images_take_several_rows_at_once(target: TargetDescription) -> None:
    grid = choose_grid(14, 2, 1, target)
    assert grid.rows.large > 1
    assert grid.columns.count == 1
