"""From a version on this machine to a session that the engine can schedule.

`prepare` compiles what a version needs into the user's cache and opens nothing; `open_session` opens it, and
with `compile="refuse"` never compiles. A server prepares before it says that a version is ready and refuses
afterwards, so nobody waits for a compiler behind a request.

Only files of models are taken from a version: executables are made here (`docs/explanation/trust.md`). A
Python class is code; it is run only where the caller allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from plumbline.contracts.models import VersionKind
from plumbline.contracts.versions import VersionSettings, VersionSpec
from plumbline.engine.encoder import TextEncoder
from plumbline.engine.model import Model
from plumbline.engine.session import Session
from plumbline.engine.sessions.model import ModelSession
from plumbline.engine.sessions.pipeline import PipelineSession, PipelineStage
from plumbline.engine.sessions.python import OBJECTS, PythonSession
from plumbline.engine.sessions.text import TextSession
from plumbline.errors import ArtifactError, PolicyError, Recoverability
from plumbline.execution.artifact import read_manifest
from plumbline.product.calibrated_stages import verify_calibrated_stages
from plumbline.product.class_loading import LoadedClass, load_class
from plumbline.product.compose import LoadOptions, find_prepared, open_prepared
from plumbline.product.compose import prepare as prepare_source

__all__ = [
    "DEFAULT_BATCH",
    "CodeNotAllowed",
    "CompileWhileServing",
    "PreparedModel",
    "VersionUnusable",
    "open_session",
    "planned_bytes",
    "prepare",
    "prepared_models",
    "version_options",
]

DEFAULT_BATCH = 8
"""Rows of one launch where neither `symbols` nor `max_batch` of a version say how many."""


@dataclass(eq=False, kw_only=True)
class CompileWhileServing(PolicyError):
    """A version would have to be compiled where that is not allowed: requests would wait for it."""

    code = "policy.compile_while_serving"
    owner = "product"
    recoverability = Recoverability.PERMANENT
    http_status = 409
    template = "version {version!r} is not compiled for this machine and these settings; prepare it first"

    version: str


@dataclass(eq=False, kw_only=True)
class CodeNotAllowed(PolicyError):
    """A version is a Python class, and it comes from where code is not taken from."""

    code = "policy.code_from_repository"
    owner = "product"
    template = (
        "version {version!r} is Python code; it runs only from a local folder, or where code is allowed "
        "explicitly"
    )

    version: str


@dataclass(eq=False, kw_only=True)
class VersionUnusable(ArtifactError):
    """What a version is said to be is not what its folder holds."""

    code = "artifact.version"
    owner = "product"
    template = "version {version!r}: {reason}"

    version: str
    reason: str


def prepare(
    spec: VersionSpec, *, allow_code: bool = False, progress: Callable[[str], None] = lambda stage: None
) -> None:
    """Compile every model of a version into the user's cache. Opens nothing, runs no code of the version.

    Args:
        spec: of the version, with its stages.
        allow_code: whether Python classes may be part of it.
        progress: called with the name of each stage of a build as it starts.

    Raises:
        CodeNotAllowed: it has a Python class.
        PlumblineError: what the importer and the compiler refuse.
    """
    for part in _parts(spec):
        if part.kind is VersionKind.PYTHON:
            _verify_code(part, allow_code)
        else:
            _verify_planned(part)
            prepare_source(_source(part), version_options(part.settings, progress))


def planned_bytes(spec: VersionSpec) -> Mapping[str, int]:
    """Memory of a prepared version by part, from its plans: what its session will state (requirement L3-07).

    Of a Python class only what `version.toml` states is known before its code runs.

    Raises:
        CompileWhileServing: it is not prepared.
    """
    parts: dict[str, int] = {}
    stages = list(_parts(spec))
    for index, part in enumerate(stages):
        prefix = f"stage{index}." if spec.kind is VersionKind.PIPELINE else ""
        if part.kind is VersionKind.PYTHON:
            if part.settings.memory_bytes is not None:
                parts[f"{prefix}{OBJECTS}"] = part.settings.instances * part.settings.memory_bytes
            continue
        plan = read_manifest(_prepared(part, version_options(part.settings))).plan
        parts[f"{prefix}weights"] = plan.weights_bytes
        parts[f"{prefix}state"] = plan.state_bytes
        parts[f"{prefix}arenas"] = part.settings.instances * plan.peak_bytes
    return parts


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedModel:
    """A compiled part of a version: the part, the model file, how it is loaded, and its executable."""

    part: VersionSpec
    source: Path
    options: LoadOptions
    folder: Path


def prepared_models(spec: VersionSpec) -> Iterator[PreparedModel]:
    """The compiled parts of a prepared version, in order; Python classes are not among them.

    Raises:
        CompileWhileServing: it is not prepared.
    """
    for part in _parts(spec):
        if part.kind is not VersionKind.PYTHON:
            options = version_options(part.settings)
            folder = _prepared(part, options)
            yield PreparedModel(part=part, source=_source(part), options=options, folder=folder)


def open_session(
    spec: VersionSpec,
    *,
    compile: Literal["allow", "refuse"] = "allow",
    allow_code: bool = False,
    on_violation: Callable[[CompileWhileServing], None] = lambda violation: None,
) -> Session:
    """Open a version. The session makes its contexts when its instances are opened.

    Args:
        spec: of the version, with its stages.
        compile: whether a model that is not in the cache is compiled now, or refused.
        allow_code: whether Python classes may be part of it.
        on_violation: told of a refusal to compile before it is raised, for the trace.

    Raises:
        CompileWhileServing: `compile` is "refuse" and the version is not prepared.
        CodeNotAllowed: it has a Python class.
        VersionUnusable: the folder does not hold what the spec says.
        PlumblineError: what the importer, the compiler or the sessions refuse. Nothing stays open.
    """
    opener = _Opener(compile == "allow", allow_code)
    try:
        return opener.open(spec)
    except CompileWhileServing as violation:
        on_violation(violation)
        raise


@dataclass(frozen=True, slots=True)
class _Opener:
    """One way to open versions."""

    may_compile: bool
    allow_code: bool

    def open(self, spec: VersionSpec) -> Session:
        """The session of a spec; whatever was opened for a failed one is closed again."""
        match spec.kind:
            case VersionKind.MODEL:
                return self._closing(
                    spec, lambda m: ModelSession(spec.ref, m, spec.settings, digest=spec.digest)
                )
            case VersionKind.TEXT:
                return self._closing(
                    spec, lambda m: TextSession(spec.ref, _encoder(m), spec.settings, digest=spec.digest)
                )
            case VersionKind.PYTHON:
                return self._code(spec)
            case VersionKind.PIPELINE:
                return self._pipeline(spec)

    def _closing(self, spec: VersionSpec, make: Callable[[Model], Session]) -> Session:
        _verify_planned(spec)
        source, options = _source(spec), version_options(spec.settings)
        folder = prepare_source(source, options) if self.may_compile else _prepared(spec, options)
        model = open_prepared(folder, source, options)
        with ExitStack() as undo:
            undo.callback(model.close)
            session = make(model)
            undo.pop_all()
        return session

    def _code(self, spec: VersionSpec) -> Session:
        _verify_code(spec, self.allow_code)
        loaded = load_class(spec.folder, spec.entry, version=str(spec.ref))
        with ExitStack() as undo:
            undo.callback(loaded.forget)
            session = _CodeSession(spec, loaded)
            undo.pop_all()
        return session

    def _pipeline(self, spec: VersionSpec) -> Session:
        verify_calibrated_stages(spec)
        with ExitStack() as undo:
            stages = []
            for part in _parts(spec):
                session = self.open(part)
                undo.callback(session.close)
                stages.append(PipelineStage(session=session))
            made = PipelineSession(spec.ref, stages, settings=spec.settings, digest=spec.digest)
            undo.pop_all()
        return made


class _CodeSession(PythonSession):
    """A class whose module goes with its session."""

    def __init__(self, spec: VersionSpec, loaded: LoadedClass) -> None:
        super().__init__(spec.ref, loaded.cls, spec.settings, folder=spec.folder, digest=spec.digest)
        self._loaded = loaded

    def close(self) -> None:
        """Forget the module."""
        super().close()
        self._loaded.forget()


def _parts(spec: VersionSpec) -> Iterator[VersionSpec]:
    """The versions that a version is made of, in order; pipelines within pipelines laid out flat."""
    if spec.kind is not VersionKind.PIPELINE:
        yield spec
    for stage in spec.stages:
        yield from _parts(stage)


def _source(spec: VersionSpec) -> Path:
    """Where the model of a version lies.

    Raises:
        VersionUnusable: not there, outside the folder, or an executable.
    """
    path = spec.folder / spec.entry
    if not path.resolve().is_relative_to(spec.folder.resolve()):
        raise VersionUnusable(version=str(spec.ref), reason="its entry lies outside its folder")
    if (path / "manifest.json").is_file():
        reason = "it is an executable; native code does not come from a repository, put the model there"
        raise VersionUnusable(version=str(spec.ref), reason=reason)
    present = path.is_dir() if spec.kind is VersionKind.TEXT else path.is_file()
    if not present:
        raise VersionUnusable(version=str(spec.ref), reason=f"there is no {spec.entry[:80]!r} in its folder")
    return path


def version_options(
    settings: VersionSettings, progress: Callable[[str], None] = lambda stage: None
) -> LoadOptions:
    """How the model of a version is loaded; contexts are made by its session."""
    return LoadOptions(
        threads=settings.threads, symbols=dict(settings.symbols), max_segment_ns=settings.max_segment_ns,
        contexts=0, progress=progress, default_batch=settings.max_batch or DEFAULT_BATCH,
    )  # fmt: skip


def _prepared(spec: VersionSpec, options: LoadOptions) -> Path:
    folder = find_prepared(_source(spec), options)
    if folder is None:
        raise CompileWhileServing(version=str(spec.ref))
    return folder


def _verify_code(spec: VersionSpec, allowed: bool) -> None:
    if not allowed:
        raise CodeNotAllowed(version=str(spec.ref))


def _verify_planned(spec: VersionSpec) -> None:
    """Nobody states what is planned."""
    if spec.settings.memory_bytes is not None:
        reason = "memory_bytes is stated for Python classes only; the memory of a model is planned"
        raise VersionUnusable(version=str(spec.ref), reason=reason)


def _encoder(model: Model) -> TextEncoder:
    return cast(TextEncoder, model)
