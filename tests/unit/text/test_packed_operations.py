"""Operations on packed rows, held to their references."""

from __future__ import annotations

import numpy as np
import pytest

from plumbline.contracts.tensors import DType
from plumbline.errors import ValidationError
from plumbline.kernels.emit.target import AVX2
from plumbline.kernels.registry import get_operation
from plumbline.testing.kernels import run_native, verify_operation

SYMBOLS = {(0, 0): "tokens", (1, 0): "offsets"}


def _offsets(*lengths: int, dtype: type = np.int32) -> np.ndarray:
    return np.cumsum([0, *lengths]).astype(dtype)


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("heads", "depth", "lengths"),
    [
        (2, 32, (1, 5, 16, 0, 33)), (1, 64, (40, 2)), (3, 8, (7, 17)), (1, 20, (3, 31)), (4, 1, (9,)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("target", [None, AVX2])
def test_attention_of_rows_of_every_length_equals_the_reference(heads, depth, lengths, target) -> None:
    qkv = _normal(0, sum(lengths), 3 * heads * depth)
    attributes = {"heads": heads, "max_row_tokens": 40}
    verify_operation(
        get_operation("packed_attention"),
        [qkv, _offsets(*lengths)],
        attributes,
        symbolic=SYMBOLS,
        target=target,
    )


def test_attention_with_a_relative_bias_equals_the_reference() -> None:
    qkv, bias = _normal(1, 29, 3 * 2 * 16), 3 * _normal(2, 2, 2 * 24 - 1)
    attributes = {"heads": 2, "max_row_tokens": 24}
    inputs = [qkv, _offsets(24, 5, dtype=np.int64), bias]
    verify_operation(get_operation("packed_attention"), inputs, attributes, symbolic=SYMBOLS)


def test_a_row_has_the_same_attention_bits_alone_and_between_others() -> None:
    """Bits of a row do not depend on its neighbours (issue 2, section 4)."""
    contract, attributes = get_operation("packed_attention"), {"heads": 2, "max_row_tokens": 64}
    rows = [_normal(seed, length, 192) for seed, length in enumerate((13, 37, 64))]
    together = run_native(
        contract, [np.concatenate(rows), _offsets(13, 37, 64)], attributes, symbolic=SYMBOLS
    )[0]
    alone = [run_native(contract, [r, _offsets(len(r))], attributes, symbolic=SYMBOLS)[0] for r in rows]
    np.testing.assert_array_equal(together.view(np.int32), np.concatenate(alone).view(np.int32))


def test_attention_of_large_scores_neither_overflows_nor_loses_the_winner() -> None:
    qkv = 100 * _normal(3, 20, 3 * 32)
    verify_operation(
        get_operation("packed_attention"), [qkv, _offsets(20)], {"heads": 1, "max_row_tokens": 20}
    )


def test_a_nan_in_a_row_stays_in_that_row() -> None:
    qkv = _normal(4, 12, 3 * 16)
    qkv[7, 16] = np.nan
    result = run_native(
        get_operation("packed_attention"), [qkv, _offsets(5, 7)], {"heads": 1, "max_row_tokens": 16}
    )[0]
    assert np.isfinite(result[:5]).all()
    assert np.isnan(result[5:]).all()


@pytest.mark.parametrize("offsets", [[-5, 900, 3], [2**31 - 1, -(2**31), 7], [0, 0, 0], [3, 2, 12]])
def test_offsets_that_are_no_rows_stay_inside_the_tensors(offsets) -> None:
    """Hostile run-time integers touch no memory outside (L1-05)."""
    bounds = np.array(offsets, np.int32)
    run_native(
        get_operation("packed_attention"), [_normal(5, 12, 48), bounds], {"heads": 1, "max_row_tokens": 8}
    )
    pooled = run_native(get_operation("packed_pool"), [_normal(5, 12, 48), bounds], {"mode": "mean"})[0]
    assert np.isfinite(pooled).all()


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("with_type", [True, False])
def test_embedding_sums_word_position_and_type(dtype, with_type) -> None:
    ids = np.array([3, 0, 6, 6, 1, 2, 5], dtype)
    inputs = [ids, _offsets(4, 0, 3), _normal(0, 7, 21), _normal(1, 9, 21)]
    inputs += [_normal(2, 21)] if with_type else []
    verify_operation(get_operation("packed_embedding"), inputs, {}, symbolic=SYMBOLS)


def test_embedding_counts_positions_past_padding_tokens() -> None:
    ids = np.array([0, 5, 1, 1, 4, 2, 0, 2], np.int32)
    inputs = [ids, _offsets(6, 2), _normal(0, 7, 16), _normal(1, 9, 16), _normal(2, 16)]
    attributes = {"position_offset": 2, "padding_id": 1}
    verify_operation(get_operation("packed_embedding"), inputs, attributes, symbolic=SYMBOLS)


def test_embedding_ids_and_positions_outside_their_tables_are_held_inside() -> None:
    ids = np.array([-3, 99, 2**31 - 1, 1], np.int32)
    inputs = [ids, _offsets(4), _normal(0, 7, 16), _normal(1, 2, 16)]
    verify_operation(get_operation("packed_embedding"), inputs, {})


@pytest.mark.parametrize("mode", ["mean", "cls"])
def test_pooling_gives_one_vector_for_each_row_and_zeros_for_an_empty_one(mode) -> None:
    inputs = [_normal(0, 11, 37), _offsets(4, 0, 1, 6)]
    verify_operation(get_operation("packed_pool"), inputs, {"mode": mode}, symbolic=SYMBOLS)


def test_pooling_leaves_out_tokens_past_the_limit_of_a_row() -> None:
    inputs, attributes = [_normal(0, 11, 37), _offsets(9, 2)], {"mode": "mean", "max_row_tokens": 4}
    verify_operation(get_operation("packed_pool"), inputs, attributes, symbolic=SYMBOLS)


def test_text_operations_are_emitted_for_every_target() -> None:
    """Issue 2, section 4: AVX-512, AVX2 and NEON."""
    from plumbline.compiler.lowering.codegen import compile_object
    from plumbline.compiler.lowering.step_function import emit_step_function
    from plumbline.kernels.emit.ir import ModuleBuilder
    from plumbline.kernels.emit.target import TARGETS
    from plumbline.testing.kernels import signature_of

    contract = get_operation("packed_attention")
    inputs = [_normal(0, 9, 96), _offsets(4, 5)]
    signature, symbols = signature_of(contract, inputs, {"heads": 1, "max_row_tokens": 64}, SYMBOLS)
    for target in TARGETS.values():
        module = ModuleBuilder()
        assert contract.kernel is not None
        emit_step_function(module, "step", signature, contract.kernel, target, tuple(symbols), internal=False)
        assert len(compile_object(module.text(), target)) > 1000


@pytest.mark.parametrize("shape", [(3, 5), (2, 384), (1, 1), (0, 7), (33,)])
def test_normalising_gives_vectors_of_length_one(shape) -> None:
    verify_operation(get_operation("l2_normalize"), [_normal(0, *shape)], {})


def test_normalising_zeros_gives_zeros() -> None:
    result = run_native(get_operation("l2_normalize"), [np.zeros((2, 8), np.float32)], {})[0]
    np.testing.assert_array_equal(result, np.zeros((2, 8), np.float32))


@pytest.mark.parametrize(
    ("operation", "inputs", "attributes"),
    [
        ("packed_attention", [(4, 50), (2,)], {"heads": 3, "max_row_tokens": 4}),
        ("packed_attention", [(4, 48), (2,)], {"heads": 0, "max_row_tokens": 4}),
        ("packed_attention", [(4, 48), (2,), (1, 3)], {"heads": 1, "max_row_tokens": 4}),
        ("packed_pool", [(4, 48), (2,)], {"mode": "max"}),
        ("packed_pool", [(4, 48), (2, 2)], {"mode": "cls"}),
    ],
)
def test_what_does_not_fit_is_refused(operation, inputs, attributes) -> None:
    arrays = [np.zeros(s, np.int32 if i == 1 else np.float32) for i, s in enumerate(inputs)]
    with pytest.raises(ValidationError):
        run_native(get_operation(operation), arrays, attributes)


def test_integer_hidden_states_are_refused() -> None:
    with pytest.raises(ValidationError, match=DType.FLOAT32.value):
        run_native(get_operation("packed_pool"), [np.zeros((2, 2), np.int32), _offsets(2)], {"mode": "mean"})
