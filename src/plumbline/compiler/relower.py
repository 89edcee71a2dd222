"""Artifacts from outside the cache: their native code is never run but made again from their program.

The program is data and is verified; the manifest must say the same as the program; weights are copied into
the user's own cache beside the new code. An artifact whose digest the user has put on the list of trusted
ones (`trust_artifact`) is copied with its code instead.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from plumbline.compiler.build import host_system, native_selection, with_rows
from plumbline.compiler.cache import ArtifactCache, CacheNotPrivate, cache_key, source_fingerprint
from plumbline.compiler.importers.digest import digest_bytes, digest_file
from plumbline.compiler.lowering.executable import lower_program
from plumbline.compiler.lowering.link import find_linker, link_shared
from plumbline.compiler.planning.program_text import ProgramRefused, parse_program
from plumbline.compiler.planning.segments import order_segments
from plumbline.compiler.rows import RowProof
from plumbline.compiler.verify_program import DAMAGE, verify_program
from plumbline.contracts.dims import upper_bound
from plumbline.contracts.program import Operand, PlannedProgram
from plumbline.contracts.tensors import storage_bytes
from plumbline.errors import ArtifactError
from plumbline.execution.artifact import Binding, Manifest, TargetMismatch, read_manifest, write_manifest
from plumbline.hardware.host.processor import measure_processor
from plumbline.kernels.emit.runtime import HostSystem
from plumbline.kernels.emit.target import TARGETS, TargetDescription

__all__ = ["ArtifactInconsistent", "CacheSettings", "artifact_digest", "relower", "trust_artifact"]

MAX_PROGRAM_BYTES = 1 << 28
UNPROVED = "the executable comes from elsewhere: what it says about independent rows is not taken on trust"
TRUSTED_FILE = "trusted-artifacts"
_TEXT_FILES = ("text.json", "tokenizer.json")
"""Beside a compiled encoder: data for whoever opens it, which a new executable takes along."""
_FILES = ("manifest.json", "program.json", "weights.bin", "code.o", "code.so", *_TEXT_FILES)


@dataclass(eq=False, kw_only=True)
class ArtifactInconsistent(ArtifactError):
    """The parts of a compiled artifact do not belong together, or one is missing."""

    code = "artifact.inconsistent"
    owner = "compiler"
    template = "compiled artifact {artifact!r}: {reason}"

    artifact: str
    reason: str


class CacheSettings(Protocol):
    """Where executables go."""

    @property
    def cache_dir(self) -> Path:
        """The user's own folder."""
        ...

    @property
    def cache_max_bytes(self) -> int:
        """Most bytes that all executables may take."""
        ...


def relower(folder: Path, settings: CacheSettings) -> Path:
    """A folder in the user's cache that runs the program of an artifact from elsewhere.

    Args:
        folder: the artifact; nothing in it is trusted, nothing in it is changed.
        settings: the cache.

    Raises:
        ManifestRefused, ProgramRefused, ArtifactInconsistent: the artifact is damaged.
        TargetMismatch: it was planned for an instruction set that this machine does not have.
    """
    manifest = read_manifest(folder)
    target = _target(manifest)
    cache = ArtifactCache(settings.cache_dir / "executables", settings.cache_max_bytes)
    digest = artifact_digest(folder)
    if digest in _trusted(settings):
        return _adopt(folder, digest, cache)
    system = host_system()
    text = _read_program(folder)
    weights = digest_file(folder / "weights.bin") if (folder / "weights.bin").stat().st_size else ""
    parts = {
        "relowered": digest_bytes(text),
        "weights": weights,
        "manifest": digest_file(folder / "manifest.json"),
        "text": [digest_file(folder / name) for name in _TEXT_FILES if (folder / name).is_file()],
        "source": source_fingerprint(),
        "target": target.name,
        "system": (system.name, system.architecture),
    }
    key = cache_key(parts)
    found = cache.find(key)
    if found is not None:
        return found
    program = _program(folder, text, manifest, target)
    if manifest.weights_digest != weights:
        raise ArtifactInconsistent(
            artifact=folder.name, reason="weights.bin has another digest than the manifest states"
        )
    with cache.make(key) as staging:
        _fill(staging, folder, program, manifest, target, system, weights)
    return _entry(cache, key, folder)


def artifact_digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of the files of an artifact, native code included."""
    state = hashlib.sha256()
    for name in _FILES:
        path = folder / name
        if path.is_file():
            content = digest_file(path) if path.stat().st_size else ""
            state.update(f"{name} {content}\n".encode())
    return state.hexdigest()


def trust_artifact(folder: Path, settings: CacheSettings) -> str:
    """Put an artifact on the list of those whose native code may be run as it is; returns its digest."""
    read_manifest(folder)
    digest = artifact_digest(folder)
    if digest not in _trusted(settings):
        settings.cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(
            settings.cache_dir / TRUSTED_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600
        )
        with os.fdopen(descriptor, "a", encoding="ascii") as file:
            file.write(digest + "\n")
    return digest


def _trusted(settings: CacheSettings) -> frozenset[str]:
    """Digests on the list. A list that others may write is refused."""
    path = settings.cache_dir / TRUSTED_FILE
    try:
        status = path.lstat()
    except FileNotFoundError:
        return frozenset()
    is_ours = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    if not stat.S_ISREG(status.st_mode) or not is_ours or stat.S_IMODE(status.st_mode) & 0o022:
        raise CacheNotPrivate(folder=TRUSTED_FILE, reason="others may write to the list of trusted artifacts")
    return frozenset(path.read_text(encoding="ascii").split())


def _adopt(folder: Path, digest: str, cache: ArtifactCache) -> Path:
    """Copy a trusted artifact, then check the copy: the original may change in between."""
    key = cache_key({"trusted": digest})
    if cache.find(key) is None:
        with cache.make(key) as staging:
            for name in _FILES:
                if (folder / name).is_file():
                    shutil.copyfile(folder / name, staging / name)
            if artifact_digest(staging) != digest:
                raise ArtifactInconsistent(artifact=folder.name, reason="it changed while it was copied")
    return _entry(cache, key, folder)


def _entry(cache: ArtifactCache, key: str, folder: Path) -> Path:
    found = cache.find(key)
    if found is None:
        raise ArtifactInconsistent(artifact=folder.name, reason="its copy left the cache while it was made")
    return found


def _target(manifest: Manifest) -> TargetDescription:
    """The target of an artifact, if this machine has its instructions."""
    architecture = host_system().architecture
    target = TARGETS.get(manifest.target)
    if target is None:
        raise TargetMismatch(wanted=manifest.target, found=f"{architecture}, for {', '.join(TARGETS)}")
    if target.architecture != architecture:
        raise TargetMismatch(wanted=manifest.target, found=architecture)
    flags = frozenset(measure_processor().flags or ())
    missing = target.required_flags - flags
    if missing and flags:
        raise TargetMismatch(
            wanted=manifest.target, found=f"{architecture} without {', '.join(sorted(missing))}"
        )
    return target


def _read_program(folder: Path) -> bytes:
    path = folder / "program.json"
    for name in ("program.json", "weights.bin"):
        if not (folder / name).is_file():
            raise ArtifactInconsistent(artifact=folder.name, reason=f"there is no {name}")
    if path.stat().st_size > MAX_PROGRAM_BYTES:
        raise ProgramRefused(place="document", reason=f"larger than {MAX_PROGRAM_BYTES} bytes")
    return path.read_bytes()


def _program(folder: Path, text: bytes, manifest: Manifest, target: TargetDescription) -> PlannedProgram:
    """The program of an artifact, verified, and equal to what the manifest says."""
    try:
        program = parse_program(text.decode("utf-8"))
    except ProgramRefused:
        raise
    except DAMAGE as error:
        raise ProgramRefused(place="document", reason=f"{type(error).__name__}: {error}") from error
    verify_program(program, target)
    _verify_manifest(folder, program, manifest)
    stored = (folder / "weights.bin").stat().st_size
    if stored != program.weights_bytes:
        reason = f"weights.bin has {stored} bytes, the program needs {program.weights_bytes}"
        raise ArtifactInconsistent(artifact=folder.name, reason=reason)
    return program


def _verify_manifest(folder: Path, program: PlannedProgram, manifest: Manifest) -> None:
    """What the runner reads from the manifest is what the program says."""
    expected = {
        "symbols": (dict(manifest.symbols), dict(program.symbols)),
        "inputs": (manifest.inputs, _bindings(program.inputs, program.symbols)),
        "outputs": (manifest.outputs, _bindings(program.outputs, program.symbols)),
        "states": (manifest.states, _bindings(program.states, program.symbols)),
        "peak_bytes": (manifest.plan.peak_bytes, program.arena_bytes),
        "weights_bytes": (manifest.plan.weights_bytes, program.weights_bytes),
        "state_bytes": (manifest.plan.state_bytes, program.state_bytes),
        "step_names": (manifest.step_names, tuple(s.name for s in program.steps)),
        "step_operations": (manifest.step_operations, tuple(s.operation for s in program.steps)),
    }
    for name, (stated, planned) in expected.items():
        if stated != planned:
            reason = f"{name} of the manifest differ from the planned program"
            raise ArtifactInconsistent(artifact=folder.name, reason=reason)


def _bindings(ports: Mapping[str, Operand], bounds: Mapping[str, int]) -> tuple[Binding, ...]:
    return tuple(
        Binding(
            name=name, dtype=o.type.dtype, shape=o.type.shape, space=o.space.value, offset=o.offset,
            size_bytes=upper_bound(storage_bytes(o.type), bounds),
        )
        for name, o in ports.items()
    )  # fmt: skip


def _fill(
    staging: Path,
    folder: Path,
    program: PlannedProgram,
    manifest: Manifest,
    target: TargetDescription,
    system: HostSystem,
    weights: str,
) -> None:
    """Make an executable in `staging`. Raises what `relower` promises."""
    try:
        lowered = lower_program(program, target, system)
    except DAMAGE as error:
        raise ProgramRefused(place="lowering", reason=f"{type(error).__name__}: {error}") from error
    (staging / "code.o").write_bytes(lowered.code)
    linker = find_linker()
    if linker is not None:
        link_shared(staging / "code.o", staging / "code.so", linker)
    shutil.copyfile(folder / "weights.bin", staging / "weights.bin")
    if weights and digest_file(staging / "weights.bin") != weights:
        raise ArtifactInconsistent(artifact=folder.name, reason="its weights changed while they were copied")
    shutil.copyfile(folder / "program.json", staging / "program.json")
    for name in _TEXT_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, staging / name)
    segments = order_segments(program, target)
    made = replace(
        manifest, target=target.name, architecture=system.architecture, system=system.name,
        compiler=lowered.compiler, threads=lowered.threads, claim_words=lowered.phases,
        segments=lowered.segments, selection=native_selection(target), segment_ns=segments.estimated_ns,
        segment_after=segments.after,
    )  # fmt: skip
    write_manifest(staging, with_rows(made, RowProof(refused_because=UNPROVED)))
