"""An executable on disk: a folder with a manifest, the planned program, packed weights and native code.

    manifest.json   what a runner needs: sizes, entry points, inputs, outputs, symbols, target
    program.json    the planned program, from which code can be made again
    plan.json       where every buffer of the arena lies, and when; nothing that runs reads it
    weights.bin     packed weights, mapped read-only
    code.o          relocatable object; code.so beside it where a linker was found

Native code is trusted only from the user's own cache (see `compiler.cache`); this module reads and checks, it
does not decide trust.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plumbline.contracts.dims import Dim, format_dim, parse_dim
from plumbline.contracts.tensors import DType
from plumbline.errors import ArtifactError, BackendError, PlumblineError

__all__ = [
    "MANIFEST_VERSION",
    "PLAN_FILE",
    "Binding",
    "Manifest",
    "ManifestRefused",
    "PlanSummary",
    "TargetMismatch",
    "read_manifest",
    "write_manifest",
]

MANIFEST_VERSION = 5
MAX_MANIFEST_BYTES = 64 << 20
PLAN_FILE = "plan.json"


@dataclass(eq=False, kw_only=True)
class ManifestRefused(ArtifactError):
    """The manifest of a compiled artifact is missing, damaged or of another version."""

    code = "artifact.manifest"
    owner = "execution"
    template = "compiled artifact {artifact!r}: {reason}"

    artifact: str
    reason: str


@dataclass(eq=False, kw_only=True)
class TargetMismatch(BackendError):
    """The artifact was compiled for another machine."""

    code = "backend.target_mismatch"
    owner = "execution"
    template = "the artifact is for {wanted}; this machine is {found}"

    wanted: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A named tensor at a fixed place: `offset` bytes into `space` (`arena`, `weights` or `state`)."""

    name: str
    dtype: DType
    shape: tuple[Dim, ...]
    space: str
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSummary:
    """The memory promise: exact bytes (requirement L2-21)."""

    peak_bytes: int
    lower_bound_bytes: int
    weights_bytes: int
    state_bytes: int
    digest: str

    def total_bytes(self, contexts: int = 1) -> int:
        """Weights, state and `contexts` arenas."""
        return self.weights_bytes + self.state_bytes + contexts * self.peak_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that running needs to know."""

    name: str
    digest: str
    target: str
    architecture: str
    system: str
    compiler: str
    threads: int
    claim_words: int
    symbols: Mapping[str, int]
    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]
    states: tuple[Binding, ...]
    segments: tuple[tuple[str, str], ...]
    step_names: tuple[str, ...]
    step_operations: tuple[str, ...]
    plan: PlanSummary
    weights_digest: str = ""
    build_seconds: float = 0.0
    segment_ns: tuple[int, ...] = ()
    """Estimated cost of each segment on one core."""
    segment_after: tuple[tuple[tuple[int, str], ...], ...] = ()
    """For each segment, the segments that must be done before it, and the tensor because of which."""
    selection: Mapping[str, Any] = field(default_factory=dict)
    """What the code is specialised for, and which backend its runs are dispatched to: two decisions."""
    batch_symbol: str = ""
    """Symbol along which requests may share a launch, axis 0 of what carries it; empty for none."""
    batched_inputs: tuple[str, ...] = ()
    """Inputs that carry it: all of them, where `batch_symbol` is set."""
    batched_outputs: tuple[str, ...] = ()
    """Outputs that carry it; any other output is the same for every row."""
    packed_symbol: str = ""
    """Symbol of the axis on which rows lie packed between row offsets; such inputs cannot be stacked."""
    unbatched_because: str = ""
    """Why requests never share a launch, in plain words; empty where they may."""
    index_ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Inputs that are nothing but indices: the least and the greatest value that is one."""


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`."""
    (folder / "manifest.json").write_text(json.dumps(_encode(manifest), indent=1), encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read and check `manifest.json`.

    Raises:
        ManifestRefused: it is missing, too large, not JSON, of another version, or misses a field.
    """
    path = folder / "manifest.json"
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ManifestRefused(artifact=folder.name, reason="the manifest is too large")
        document = json.loads(path.read_text(encoding="utf-8"))
        version = document["schema_version"]
        if version != MANIFEST_VERSION:
            reason = f"schema version {version}, this runtime reads {MANIFEST_VERSION}"
            raise ManifestRefused(artifact=folder.name, reason=reason)
        return _decode(document)
    except FileNotFoundError as error:
        raise ManifestRefused(artifact=folder.name, reason="there is no manifest.json") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ManifestRefused(artifact=folder.name, reason=f"the manifest is damaged ({error!r})") from error
    except ManifestRefused:
        raise
    except PlumblineError as error:
        raise ManifestRefused(artifact=folder.name, reason=str(error)) from error


def _encode(manifest: Manifest) -> dict[str, Any]:
    plan = manifest.plan
    return {
        "schema_version": MANIFEST_VERSION,
        **{
            name: getattr(manifest, name)
            for name in ("name", "digest", "target", "architecture", "system", "compiler", "threads",
                         "claim_words", "weights_digest", "build_seconds", "batch_symbol",
                         "packed_symbol", "unbatched_because")
        },
        "symbols": dict(manifest.symbols),
        "index_ranges": {name: list(bounds) for name, bounds in manifest.index_ranges.items()},
        "batched_inputs": list(manifest.batched_inputs), "batched_outputs": list(manifest.batched_outputs),
        "inputs": [_encode_binding(b) for b in manifest.inputs],
        "outputs": [_encode_binding(b) for b in manifest.outputs],
        "states": [_encode_binding(b) for b in manifest.states],
        "segments": [list(s) for s in manifest.segments],
        "segment_ns": list(manifest.segment_ns),
        "selection": dict(manifest.selection),
        "segment_after": [[list(pair) for pair in after] for after in manifest.segment_after],
        "step_names": list(manifest.step_names),
        "step_operations": list(manifest.step_operations),
        "plan": {
            "peak_bytes": plan.peak_bytes, "lower_bound_bytes": plan.lower_bound_bytes,
            "weights_bytes": plan.weights_bytes, "state_bytes": plan.state_bytes, "digest": plan.digest,
        },
    }  # fmt: skip


def _encode_binding(binding: Binding) -> dict[str, Any]:
    return {
        "name": binding.name, "dtype": binding.dtype.value, "shape": [format_dim(d) for d in binding.shape],
        "space": binding.space, "offset": binding.offset, "size_bytes": binding.size_bytes,
    }  # fmt: skip


def _decode(document: Mapping[str, Any]) -> Manifest:
    return Manifest(
        name=document["name"], digest=document["digest"], target=document["target"],
        architecture=document["architecture"], system=document["system"], compiler=document["compiler"],
        threads=int(document["threads"]), claim_words=int(document["claim_words"]),
        weights_digest=str(document["weights_digest"]),
        build_seconds=float(document["build_seconds"]),
        batch_symbol=str(document["batch_symbol"]), packed_symbol=str(document["packed_symbol"]),
        unbatched_because=str(document["unbatched_because"]),
        batched_inputs=tuple(str(name) for name in document["batched_inputs"]),
        batched_outputs=tuple(str(name) for name in document["batched_outputs"]),
        symbols={str(k): int(v) for k, v in document["symbols"].items()},
        index_ranges={str(k): (int(low), int(high)) for k, (low, high) in document["index_ranges"].items()},
        inputs=tuple(_decode_binding(b) for b in document["inputs"]),
        outputs=tuple(_decode_binding(b) for b in document["outputs"]),
        states=tuple(_decode_binding(b) for b in document["states"]),
        segments=tuple((str(a), str(b)) for a, b in document["segments"]),
        segment_ns=tuple(int(n) for n in document["segment_ns"]), selection=dict(document["selection"]),
        segment_after=tuple(
            tuple((int(index), str(why)) for index, why in after) for after in document["segment_after"]
        ),
        step_names=tuple(document["step_names"]), step_operations=tuple(document["step_operations"]),
        plan=PlanSummary(**document["plan"]),
    )  # fmt: skip


def _decode_binding(document: Mapping[str, Any]) -> Binding:
    return Binding(
        name=document["name"], dtype=DType(document["dtype"]),
        shape=tuple(parse_dim(d) for d in document["shape"]), space=document["space"],
        offset=int(document["offset"]), size_bytes=int(document["size_bytes"]),
    )  # fmt: skip
