"""Weights of an encoder as graph constants. Nothing is read until a constant is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.constant import Constant
from plumbline.compiler.graph.graph import TensorID
from plumbline.compiler.importers.huggingface.refusals import WeightRefused
from plumbline.compiler.importers.safetensors import SafetensorsFile, StoredTensor
from plumbline.contracts.tensors import DType, TensorType

__all__ = ["WeightIndex"]

_FLOATS = (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16, DType.FLOAT64)
_SCOPES = ("embeddings.", "encoder.", "transformer.")
_IGNORED = ("embeddings.position_ids", "embeddings.token_type_ids")
_LEGACY = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}


def _floats(tensor: StoredTensor) -> np.ndarray:
    """Elements as float32; narrower floats are widened without rounding."""
    stored = tensor.read()
    if tensor.dtype is DType.BFLOAT16:
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return stored.astype(np.float32)


@dataclass(frozen=True)
class StoredWeight:
    """A tensor as it stands in the file, as float32."""

    tensor: StoredTensor
    digest: str

    @property
    def identity(self) -> str:
        """Digest of the file and the name in it."""
        return f"{self.digest}#{self.tensor.name}"

    def read(self) -> np.ndarray:
        """The values, shape as stored."""
        return _floats(self.tensor)


@dataclass(frozen=True)
class TurnedWeight:
    """Linear layers `[out, in]` turned to `[in, out]` and put side by side."""

    tensors: tuple[StoredTensor, ...]
    digest: str

    @property
    def identity(self) -> str:
        """Digest of the file and the names in it."""
        return f"{self.digest}#turned({','.join(t.name for t in self.tensors)})"

    def read(self) -> np.ndarray:
        """The values `[in, sum of out]`."""
        return np.ascontiguousarray(np.concatenate([_floats(t) for t in self.tensors], axis=0).T)


@dataclass(frozen=True)
class JoinedVectors:
    """Vectors one after the other."""

    tensors: tuple[StoredTensor, ...]
    digest: str

    @property
    def identity(self) -> str:
        """Digest of the file and the names in it."""
        return f"{self.digest}#joined({','.join(t.name for t in self.tensors)})"

    def read(self) -> np.ndarray:
        """The values `[sum]`."""
        return np.concatenate([_floats(t) for t in self.tensors])


@dataclass(frozen=True)
class FirstRow:
    """The first row of a table."""

    tensor: StoredTensor
    digest: str

    @property
    def identity(self) -> str:
        """Digest of the file and the place in it."""
        return f"{self.digest}#first({self.tensor.name})"

    def read(self) -> np.ndarray:
        """The values `[width]`."""
        return np.array(_floats(self.tensor)[0])


@dataclass(frozen=True)
class RelativeBias:
    """A bucketed bias `[buckets, heads]` spread over distances: `[heads, 2 limit - 1]`.

    Entry `d + limit - 1` is for a key `d` places after the query.

    Buckets follow T5 (Raffel et al., 2020, section 2.1): half of them for each direction; in each half the
    first half holds single distances, the rest logarithmic ranges up to 128.
    """

    tensor: StoredTensor
    digest: str
    limit: int

    @property
    def identity(self) -> str:
        """Digest of the file, the name in it, and the limit."""
        return f"{self.digest}#distances({self.tensor.name},{self.limit})"

    def read(self) -> np.ndarray:
        """The values."""
        table = _floats(self.tensor)
        buckets = relative_buckets(np.arange(1 - self.limit, self.limit), len(table))
        return np.ascontiguousarray(table[buckets].T)


def relative_buckets(distance: np.ndarray, buckets: int, farthest: int = 128) -> np.ndarray:
    """Bucket of each distance (key position minus query position), in float32 as models were trained."""
    half = buckets // 2
    single = half // 2
    magnitude = np.abs(distance)
    scaled = np.log(np.maximum(magnitude, 1).astype(np.float32) / np.float32(single))
    logarithm = scaled / np.float32(math.log(farthest / single)) * np.float32(half - single)
    far = np.minimum(single + logarithm.astype(np.int64), half - 1)
    return np.asarray(np.where(distance > 0, half, 0) + np.where(magnitude < single, magnitude, far))


class WeightIndex:
    """Finds the weights of an encoder in a file, checks their shapes, and remembers which were used."""

    def __init__(self, file: SafetensorsFile, digest: str, builder: GraphBuilder, family: str) -> None:
        self._file, self._digest, self._builder = file, digest, builder
        self._used: set[str] = set()
        self._prefix = self._find_prefix(family)

    def stored(self, name: str, *shape: int) -> TensorID:
        """A tensor as it stands."""
        tensor = self._tensor(name, *shape)
        return self._constant(StoredWeight(tensor, self._digest), name, *shape)

    def turned(self, names: tuple[str, ...], inputs: int, outputs: int) -> TensorID:
        """Linear layers of equal size side by side: `[inputs, len(names) * outputs]`."""
        tensors = tuple(self._tensor(f"{name}.weight", outputs, inputs) for name in names)
        constant = TurnedWeight(tensors, self._digest)
        return self._constant(constant, f"{names[0]}.weight", inputs, len(names) * outputs)

    def joined(self, names: tuple[str, ...], outputs: int) -> TensorID:
        """Biases of linear layers of equal size: `[len(names) * outputs]`."""
        tensors = tuple(self._tensor(f"{name}.bias", outputs) for name in names)
        return self._constant(JoinedVectors(tensors, self._digest), f"{names[0]}.bias", len(names) * outputs)

    def first_row(self, name: str, rows: int, width: int) -> TensorID:
        """The first row of a table: `[width]`."""
        return self._constant(FirstRow(self._tensor(name, rows, width), self._digest), name, width)

    def relative_bias(self, name: str, buckets: int, heads: int, limit: int) -> TensorID:
        """A bucketed attention bias by distance: `[heads, 2 limit - 1]`."""
        constant = RelativeBias(self._tensor(name, buckets, heads), self._digest, limit)
        return self._constant(constant, name, heads, 2 * limit - 1)

    def verify_all_used(self) -> None:
        """Refuse a file with weights of the encoder that no layer took.

        Raises:
            WeightRefused: naming the first.
        """
        for name in sorted(self._file.tensors):
            inner = name.removeprefix(self._prefix)
            ours = name.startswith(self._prefix) and inner.startswith(_SCOPES)
            if ours and inner not in self._used and inner not in _IGNORED:
                raise self._error(name, "the configured encoder has no place for it")

    def _find_prefix(self, family: str) -> str:
        names = [n for n in self._file.tensors if n.endswith("embeddings.word_embeddings.weight")]
        prefixes = sorted(n.removesuffix("embeddings.word_embeddings.weight") for n in names)
        if len(prefixes) != 1:
            found = ", ".join(repr(p[:60]) for p in prefixes) or "none"
            reason = f"one word table is needed; prefixes found: {found}"
            raise self._error("embeddings.word_embeddings.weight", reason)
        if prefixes[0] not in ("", f"{family}.", "model.", f"model.{family}."):
            raise self._error(names[0], f"a prefix of {family} is '' or '{family}.'")
        return prefixes[0]

    def _tensor(self, name: str, *shape: int) -> StoredTensor:
        found = self._file.tensors.get(self._prefix + name)
        if found is None:
            legacy = next(
                (name.replace(new, old) for new, old in _LEGACY.items() if name.endswith(new)), name
            )
            name, found = legacy, self._file.tensors.get(self._prefix + legacy)
        if found is None:
            raise self._error(self._prefix + name, "it is missing")
        if found.dtype not in _FLOATS:
            raise self._error(found.name, f"element type {found.dtype.value} is not a float")
        if found.shape != shape:
            raise self._error(
                found.name, f"its shape is {list(found.shape)}, the configuration says {list(shape)}"
            )
        self._used.add(name)
        return found

    def _constant(self, constant: Constant, name: str, *shape: int) -> TensorID:
        return self._builder.stored_constant(constant, TensorType(DType.FLOAT32, shape), name)

    def _error(self, tensor: str, reason: str) -> WeightRefused:
        return WeightRefused(file=self._file.name, tensor=tensor[:200], reason=reason)
