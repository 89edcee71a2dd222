"""Rooms never overlap; nothing that a worker says makes the gateway read outside of them (L4-72, X-31)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import ModelMetadata, TensorSpec, VersionKind
from plumbline.serving.workers import protocol, tensors
from plumbline.serving.workers.slots import SMALLEST_SLOT_BYTES, SlotAllocator

METADATA = ModelMetadata(
    ref=VersionRef(model="m", version="1"),
    kind=VersionKind.MODEL,
    inputs=(),
    outputs=(
        TensorSpec(name="y", datatype="FP32", shape=(-1, 2)),
        TensorSpec(name="t", datatype="BYTES", shape=(-1,)),
    ),
)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 40_000),
    st.lists(st.tuples(st.booleans(), st.integers(0, 9_000), st.integers(0, 1 << 30)), max_size=80),
)
def test_slots_that_are_taken_never_overlap_and_all_room_comes_back(
    size: int, orders: list[tuple[bool, int, int]]
) -> None:
    slots = SlotAllocator(4096, size)
    held: list[tuple[int, int]] = []
    for take, wanted, pick in orders:
        if take or not held:
            slot = slots.take(wanted)
            if slot is not None:
                assert SMALLEST_SLOT_BYTES << slot[1] >= wanted
                held.append(slot)
        else:
            slots.give(held.pop(pick % len(held)))
        ranges = sorted((offset, offset + (SMALLEST_SLOT_BYTES << order)) for offset, order in held)
        assert all(end <= start for (_, end), (start, _) in pairwise(ranges))
        assert all(start >= 4096 and end <= 4096 + size for start, end in ranges)
    for slot in held:
        slots.give(slot)
    assert slots.used_bytes == 0
    largest = 0
    while SMALLEST_SLOT_BYTES << largest <= size:
        largest += 1
    if largest:
        assert slots.take(SMALLEST_SLOT_BYTES << (largest - 1)) is not None


places = st.builds(
    protocol.TensorAt,
    st.sampled_from(["y", "t", "z", ""]),
    st.integers(-2, 20),
    st.lists(st.one_of(st.integers(-2, 9), st.integers(0, 1 << 63)), max_size=3).map(tuple),
    st.one_of(st.sampled_from([0, 64, 128, 960]), st.integers(-100, 1 << 62)),
    st.one_of(st.integers(0, 80), st.integers(-5, 1 << 62)),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(places, max_size=3), st.binary(min_size=1024, max_size=1024))
def test_places_of_any_kind_are_refused_or_read_within_their_room(
    said: list[protocol.TensorAt], content: bytes
) -> None:
    memory = memoryview(bytearray(content))
    flaw = tensors.mismatch(said, 64, 512, METADATA)
    if flaw is not None:
        assert len(flaw[1]) < 500
        return
    try:
        outputs = tensors.read(said, memory, copy=True)
    except ValueError:
        return
    for place in said:
        assert 64 <= place.offset <= place.offset + place.size <= 512
        if place.type != tensors.BYTES:
            stored = content[place.offset : place.offset + place.size]
            assert outputs[place.name].tobytes() == stored


arrays = st.one_of(
    st.lists(st.binary(max_size=40), max_size=6).map(lambda items: np.array([*items, None], object)[:-1]),
    st.tuples(st.sampled_from(["?", "i1", "<u2", "<i8", "<f2", "<f8"]), st.integers(0, 7)).map(
        lambda pair: np.arange(pair[1] * 2).astype(pair[0]).reshape(pair[1], 2)
    ),
    st.just(np.float32(3.5).reshape(())),
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=5), arrays, max_size=4))
def test_tensors_come_back_as_they_were_packed(values: dict[str, np.ndarray]) -> None:
    packed, size = tensors.pack(values)
    memory = memoryview(bytearray(size + 256))
    said = tensors.write(packed, memory, 128)
    assert tensors.mismatch(said, 128, 128 + size, None) is None
    again = tensors.read(said, memory, copy=True)
    assert list(again) == list(values)
    for name, value in values.items():
        assert again[name].dtype == value.dtype
        assert again[name].shape == value.shape
        assert again[name].tolist() == value.tolist()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_a_message_or_refused(data: bytes) -> None:
    import msgspec

    try:
        protocol.decode_from_worker(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
