"""Whatever the bytes, reading ends soon, in little memory, with records or with one of our errors (X-49).

`PLUMBLINE_FUZZ_S` sets the seconds of the free-running fuzzers (default two each).
"""

from __future__ import annotations

import os
import random
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser

from plumbline.compiler.importers.onnx_wire import (
    OnnxGraph,
    OnnxModel,
    OnnxSparseTensor,
    OnnxTensor,
    read_array,
    read_model,
    verify_names,
)
from plumbline.compiler.importers.onnx_wire.arrays import TensorDataError, UnsupportedTensorError
from plumbline.errors import ErrorClass, PlumblineError

FUZZ_S = float(os.environ.get("PLUMBLINE_FUZZ_S", "2"))
BUNDLED = Path(onnx.__file__).parent / "backend" / "test" / "data"
QUICK = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def rich_model() -> onnx.ModelProto:
    """A small model with every message that the schema has."""
    model = parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21, "f" : 1], metadata_props: ["k": "v"]>
        main (float[N, 4] x, bool c, seq(float[2]) s) => (float[N, 4] y) <float[4] w = {1, 2, 3, 4}> {
            a = f.scaled <gain = 2.0> (x)
            y = If (c) <then_branch = t () => (float[N, 4] p) { p = Add(a, w) },
                        else_branch = e () => (float[N, 4] q) { q = Sub(a, w) }>
        }
        <domain: "f", opset_import: ["" : 21]>
        scaled <gain: float = 1.0> (x) => (z) {
            g = Constant <value_float: float = @gain> ()
            z = Mul(x, g)
        }"""
    )
    for code in (1, 2, 3, 6, 7, 9, 10, 11, 13, 16, 21, 22):
        model.graph.initializer.append(helper.make_tensor(f"t{code}", code, [3], [1, 0, 1]))
    model.graph.initializer.append(numpy_helper.from_array(np.arange(6.0).reshape(2, 3), "raw"))
    model.graph.initializer.append(TensorProto(name="s", data_type=8, dims=[1], string_data=[b"a"]))
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            numpy_helper.from_array(np.array([1.5], np.float32), "sv"),
            numpy_helper.from_array(np.array([2], np.int64), "si"),
            [5],
        )
    )
    model.graph.node.append(
        helper.make_node("Op", ["x"], ["z"], ints=[1, 2], floats=[0.5], strings=["a"], text="b")
    )
    return model


SEED = rich_model().SerializeToString()
SMALL = [SEED] + [
    data for path in sorted(BUNDLED.rglob("*.onnx"))[::9] if len(data := path.read_bytes()) < 20_000
]


def tensors_of(graph: OnnxGraph) -> Iterator[OnnxTensor]:
    yield from graph.initializers
    for node in graph.nodes:
        for attribute in node.attributes:
            values = attribute.value if isinstance(attribute.value, tuple) else (attribute.value,)
            for value in values:
                if isinstance(value, OnnxTensor):
                    yield value
                elif isinstance(value, OnnxSparseTensor):
                    yield from (value.values, value.indices)
                elif isinstance(value, OnnxGraph):
                    yield from tensors_of(value)


def digest_everything(data: bytes) -> OnnxModel | None:
    """Read, verify and touch every payload; None when one of our errors refuses any of it."""
    try:
        model = read_model(data)
        readable = [is_readable(tensor) for tensor in tensors_of(model.graph)]
        verify_names(model)
    except PlumblineError as error:
        verify_refusal(error)
        return None
    return model if all(readable) else None


def is_readable(tensor: OnnxTensor) -> bool:
    try:
        array = read_array(tensor)
    except UnsupportedTensorError:
        return True
    except TensorDataError as error:
        verify_refusal(error)
        return False
    assert array.shape == tensor.dims
    return True


def verify_refusal(error: PlumblineError) -> None:
    assert error.error_class in (ErrorClass.ARTIFACT, ErrorClass.VALIDATION)
    assert error.message


def mutate(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(out) or 1)
        choice = rng.randrange(6)
        if choice == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif choice == 1 and out:
            out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x3A))
        elif choice == 2:
            del out[at : at + rng.randrange(1, 9)]
        elif choice == 3:
            out[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif choice == 4:
            begin = rng.randrange(len(out) or 1)
            out[at:at] = out[begin : begin + rng.randrange(1, 200)]
        else:
            del out[max(at, 1) :]
    return bytes(out)


@QUICK
@given(st.binary(max_size=400))
def test_random_bytes_are_read_or_refused(data: bytes) -> None:
    digest_everything(data)


@QUICK
@given(st.integers(0, len(SEED) - 1), st.integers(1, 255))
def test_a_changed_byte_is_read_or_refused(position: int, change: int) -> None:
    data = bytearray(SEED)
    data[position] ^= change
    digest_everything(bytes(data))


def test_every_truncation_is_read_or_refused() -> None:
    """A cut between two fields of the outermost message may leave a smaller, complete model."""
    complete = sum(digest_everything(SEED[:cut]) is not None for cut in range(1, len(SEED)))
    assert complete < 10


def test_every_flipped_bit_is_read_or_refused() -> None:
    for position in range(len(SEED)):
        for bit in range(8):
            data = bytearray(SEED)
            data[position] ^= 1 << bit
            digest_everything(bytes(data))


@pytest.mark.parametrize("seed", [1, 2])
def test_mutated_models_are_read_or_refused_in_little_time_and_memory(seed: int) -> None:
    rng = random.Random(seed)
    stop = time.monotonic() + FUZZ_S
    runs = accepted = 0
    slowest = 0.0
    tracemalloc.start()
    while time.monotonic() < stop or runs <= 20:
        data = mutate(rng, rng.choice(SMALL))
        started = time.thread_time()
        accepted += digest_everything(data) is not None
        slowest = max(slowest, time.thread_time() - started)
        runs += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert runs > 20
    assert accepted < runs
    assert peak < 64 << 20
    assert slowest < 10.0


WIRE_FIELDS = st.deferred(
    lambda: st.lists(
        st.one_of(
            st.tuples(st.integers(1, 30), st.just(0), st.integers(0, (1 << 64) - 1)),
            st.tuples(st.integers(1, 30), st.just(2), st.one_of(st.binary(max_size=12), WIRE_FIELDS)),
            st.tuples(st.integers(1, 30), st.just(5), st.binary(min_size=4, max_size=4)),
            st.tuples(st.integers(1, 30), st.just(1), st.binary(min_size=8, max_size=8)),
        ),
        max_size=6,
    )
)


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(fields: list[tuple[int, int, object]]) -> bytes:
    out = b""
    for field, wire, value in fields:
        out += varint(field << 3 | wire)
        if isinstance(value, int):
            out += varint(value)
            continue
        data = encode(value) if isinstance(value, list) else value
        out += varint(len(data)) + data if wire == 2 else data
    return out


@QUICK
@given(WIRE_FIELDS, st.sampled_from([(7,), (7, 1), (7, 5), (7, 11), (7, 1, 5), (7, 11, 2), (25,), (25, 7)]))
def test_well_formed_nonsense_is_read_or_refused(fields, path: tuple[int, ...]) -> None:
    """Valid encoding, random schema: placed as graph, node, tensor, value, attribute, type or function."""
    data = encode(fields)
    for field in reversed(path):
        data = varint(field << 3 | 2) + varint(len(data)) + data
    digest_everything(b"\x08\x08" + data)


@QUICK
@given(st.integers(0, len(SEED) - 1), st.integers(1, 255))
def test_what_is_accepted_says_what_onnx_reads(position: int, change: int) -> None:
    """Two readers that disagree on one file are a way around a check: shapes and operators must agree.

    We do not walk what we do not keep (node metadata, documentation), so onnx may refuse damage there.
    """
    data = bytearray(SEED)
    data[position] ^= change
    ours = digest_everything(bytes(data))
    if ours is None:
        return
    try:
        theirs = onnx.ModelProto.FromString(bytes(data))
    except DecodeError:
        return
    assert [node.op_type for node in ours.graph.nodes] == [node.op_type for node in theirs.graph.node]
    assert [list(t.dims) for t in ours.graph.initializers] == [list(t.dims) for t in theirs.graph.initializer]
    assert [t.dtype for t in ours.graph.initializers] == [t.data_type for t in theirs.graph.initializer]
