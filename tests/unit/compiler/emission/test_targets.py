"""Code for AVX-512, AVX2 and NEON, read as assembly: multiply-adds per step, no spills, no calls.

This machine runs at most two of them, so the third is held to its text.
"""

from __future__ import annotations

import struct
from functools import lru_cache

import numpy as np
import pytest

from plumbline.compiler.importers.onnx import import_onnx
from plumbline.compiler.lowering.codegen import compile_object
from plumbline.contracts.tensors import Packed
from plumbline.kernels.blocked.convolution import conv_tiling
from plumbline.kernels.emit.target import TARGETS, TargetDescription
from plumbline.kernels.emit.tile import even_split, widest_rows
from plumbline.testing.bits import NetworkWriter
from plumbline.testing.emission import EmittedStep, Loop, emit_steps, find_innermost_loops

UNROLLED = 4
"""Steps of the reduction in one trip of the innermost loop."""
ROWS, INNER, COLUMNS = 128, 256, 384
EVERY = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@lru_cache
def steps_of(target: TargetDescription) -> dict[str, EmittedStep]:
    """One step of each structured operation, from an image network and a network over rows."""
    rng = np.random.default_rng(0)
    image = NetworkWriter("image", rng)
    y = image.node("Conv", "x", image.weights(64, 32, 3, 3), image.weights(64), pads=[1, 1, 1, 1])
    y = image.node("Relu", y)
    y = image.node("Conv", y, image.weights(64, 1, 3, 3), pads=[1, 1, 1, 1], group=64)
    limits = [image.constant(np.array(v, np.float32)) for v in (0.0, 6.0)]
    y = image.node("MaxPool", image.node("Clip", y, *limits), kernel_shape=[3, 3], strides=[2, 2])
    pictures = image.finish({"x": np.zeros((1, 32, 28, 28), np.float32)}, {y: 4}, is_batched=False)
    rows = NetworkWriter("rows", rng)
    y = rows.node("Add", rows.node("MatMul", "x", rows.weights(INNER, COLUMNS)), rows.weights(COLUMNS))
    y = rows.node("Softmax", rows.node("Relu", y), axis=-1)
    y = rows.node("Tanh", rows.node("Sigmoid", rows.node("Exp", y)))
    table = rows.finish({"x": np.zeros((ROWS, INNER), np.float32)}, {y: 2}, is_batched=False)
    found = (step for n in (pictures, table) for step in emit_steps(import_onnx(n.model), target))
    return {step.signature.operation: step for step in found}


def hot_loops(step: EmittedStep) -> list[Loop]:
    """Innermost loops that multiply and add, the largest first."""
    loops = [loop for loop in step.loops if loop.multiply_adds]
    return sorted(loops, key=lambda loop: -len(loop.multiply_adds))


@EVERY
def test_every_trip_of_a_matrix_tile_is_rows_times_vectors_multiply_adds(target: TargetDescription) -> None:
    step = steps_of(target)["packed_gemm"]
    weights = step.signature.inputs[1]
    assert weights is not None
    assert isinstance(weights.layout, Packed)
    vectors = weights.layout.parameters[2]
    most = widest_rows(vectors, target.vector_registers, target.spare_registers)
    expected = [UNROLLED * rows * vectors for rows in even_split(ROWS, most).sizes]
    assert [len(loop.multiply_adds) for loop in hot_loops(step)] == expected


@EVERY
def test_every_trip_of_a_convolution_tile_is_pixels_times_vectors_multiply_adds(
    target: TargetDescription,
) -> None:
    step = steps_of(target)["conv_blocked"]
    tiling = conv_tiling(step.signature, target)
    expected = [UNROLLED * rows * columns * tiling.vectors for rows, columns in tiling.grid.variants]
    assert [len(loop.multiply_adds) for loop in hot_loops(step)] == sorted(expected, reverse=True)


@EVERY
@pytest.mark.parametrize("operation", ["packed_gemm", "conv_blocked", "depthwise_blocked"])
def test_no_register_is_spilled_in_a_hot_loop(target: TargetDescription, operation: str) -> None:
    """A tile that fits on paper but not beside its broadcasts would store accumulators every step."""
    loops = hot_loops(steps_of(target)[operation])
    assert loops
    for loop in loops:
        assert loop.stack_accesses == ()


@EVERY
def test_multiply_adds_are_most_of_the_instructions_of_a_hot_loop(target: TargetDescription) -> None:
    for operation in ("packed_gemm", "conv_blocked"):
        loop = hot_loops(steps_of(target)[operation])[0]
        assert len(loop.multiply_adds) >= 0.5 * len(loop.instructions), operation


@EVERY
def test_structured_steps_softmax_and_maps_call_no_function(target: TargetDescription) -> None:
    """Exponentials, tangents and error functions are vector code of ours, never one call a number."""
    steps = steps_of(target)
    wanted = {"packed_gemm", "conv_blocked", "depthwise_blocked", "pool_blocked", "softmax", "fused_map"}
    assert wanted <= steps.keys()
    for operation in wanted:
        assert steps[operation].calls == frozenset(), operation


@pytest.mark.parametrize("operation", ["packed_gemm", "conv_blocked"])
def test_neon_multiplies_by_a_lane_or_by_a_replicating_load(operation: str) -> None:
    """A scalar is never spread over a register by an instruction of its own."""
    for loop in hot_loops(steps_of(TARGETS["neon"])[operation]):
        assert [i for i in loop.instructions if i.startswith("dup")] == []
        by_lane = [i for i in loop.multiply_adds if ".s[" in i]
        replicated = [i for i in loop.instructions if i.startswith("ld1r")]
        assert by_lane or replicated


@pytest.mark.parametrize("name", ["avx512", "avx2"])
def test_x86_broadcasts_scalars_from_memory(name: str) -> None:
    loop = hot_loops(steps_of(TARGETS[name])["packed_gemm"])[0]
    broadcasts = [i for i in loop.instructions if i.startswith("vbroadcastss") or "{1to16}" in i]
    assert broadcasts
    assert all("(%r" in i for i in broadcasts)


@pytest.mark.parametrize(("name", "register"), [("avx512", "%zmm"), ("avx2", "%ymm"), ("neon", ".4s")])
def test_hot_loops_use_the_widest_registers_of_the_target(name: str, register: str) -> None:
    for operation in ("packed_gemm", "conv_blocked", "depthwise_blocked"):
        for loop in hot_loops(steps_of(TARGETS[name])[operation]):
            assert all(register in i for i in loop.multiply_adds)


@pytest.mark.parametrize(("name", "machine"), [("avx512", 62), ("avx2", 62), ("neon", 183)])
def test_object_code_is_for_the_machine_of_the_target(name: str, machine: int) -> None:
    """ELF header: 62 is x86-64, 183 is AArch64."""
    triple = f"{TARGETS[name].architecture}-unknown-linux-gnu"
    code = compile_object("define i32 @f() {\n  ret i32 7\n}\n", TARGETS[name], triple=triple)
    assert code[:4] == b"\x7fELF"
    assert struct.unpack_from("<H", code, 18) == (machine,)


def test_the_reader_of_loops_sees_spills_and_nests() -> None:
    """The control of this module: text in which everything that is looked for occurs."""
    text = """
step:
    pushq %rbp
.L1:
    xorl %eax, %eax
.L2:
    vmovups %zmm0, -64(%rsp)  # a spill
    vfmadd231ps (%rbp){1to16}, %zmm1, %zmm2
    callq expf@PLT
    jne .L2
    jne .L1
"""
    (loop,) = find_innermost_loops(text, "x86_64")
    assert len(loop.instructions) == 4
    assert len(loop.multiply_adds) == 1
    assert loop.stack_accesses == ("vmovups %zmm0, -64(%rsp)",)
    assert loop.calls == ("expf@PLT",)
