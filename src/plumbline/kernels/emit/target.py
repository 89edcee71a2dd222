"""Target descriptions: what the code generator may assume of an instruction set.

A description is data: vector width, registers and preferred tiles. Emission differs between targets in these
numbers only; bits are promised per description, not across descriptions.
"""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.contracts.tensors import DType

__all__ = ["AVX2", "AVX512", "NEON", "TARGETS", "TargetDescription"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetDescription:
    """An instruction set for code generation.

    `tiles` lists (rows, vectors) register tiles of the matrix micro-kernel, preferred first: `rows * vectors`
    accumulators plus `vectors` weights and `spare_registers` broadcasts must fit the registers. An
    instruction set that broadcasts from memory needs one; where scalars are loaded first, several are on
    their way at once.
    """

    name: str
    architecture: str
    cpu: str
    features: str
    vector_bytes: int
    vector_registers: int
    spare_registers: int
    tiles: tuple[tuple[int, int], ...]
    required_flags: frozenset[str]

    def lanes(self, dtype: DType) -> int:
        """Elements of a full vector of `dtype` (bool counts as a byte)."""
        return self.vector_bytes // dtype.size_bytes

    @property
    def float_lanes(self) -> int:
        """Lanes of float32, which is also the channel block of image layouts."""
        return self.vector_bytes // 4


AVX512 = TargetDescription(
    name="avx512",
    architecture="x86_64",
    cpu="skylake-avx512",
    features="-prefer-256-bit",
    vector_bytes=64,
    vector_registers=32,
    spare_registers=1,
    tiles=((14, 2), (7, 4), (9, 3), (28, 1)),
    required_flags=frozenset({"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd", "f16c", "fma"}),
)
AVX2 = TargetDescription(
    name="avx2",
    architecture="x86_64",
    cpu="haswell",
    features="",
    vector_bytes=32,
    vector_registers=16,
    spare_registers=1,
    tiles=((6, 2), (4, 3), (12, 1)),
    required_flags=frozenset({"avx2", "fma", "f16c"}),
)
NEON = TargetDescription(
    name="neon",
    architecture="aarch64",
    cpu="generic",
    features="+neon,+fp-armv8",
    vector_bytes=16,
    vector_registers=32,
    spare_registers=4,
    tiles=((8, 3), (6, 4), (12, 2), (24, 1)),
    required_flags=frozenset({"asimd"}),
)
TARGETS = {target.name: target for target in (AVX512, AVX2, NEON)}
