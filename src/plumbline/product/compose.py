"""Choose implementations and put them together: model file to loaded model.

The run path of a model that is in the cache imports neither onnx nor LLVM nor the compiler's passes.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from plumbline.compiler.cache import ArtifactCache, cache_key, source_fingerprint
from plumbline.compiler.importers.digest import digest_bytes, digest_file, verify_digest
from plumbline.compiler.importers.formats import FormatOptions, find_format, read_model_file
from plumbline.config.settings import Settings, read_settings
from plumbline.contracts.program import MAX_THREADS
from plumbline.engine.encoder import TextEncoder
from plumbline.engine.model import Model
from plumbline.engine.tokenization import TextSettings
from plumbline.errors import ValidationError
from plumbline.execution.artifact import Manifest, TargetMismatch, read_manifest
from plumbline.execution.code import CodeLibrary, SharedLibrary
from plumbline.hardware.cpu import CpuDevice
from plumbline.hardware.host.processor import measure_processor
from plumbline.product.text_settings import carry_text_settings, read_text_settings

if TYPE_CHECKING:
    from plumbline.compiler.build import BuildOptions
    from plumbline.compiler.graph.graph import ExecutionGraph
    from plumbline.kernels.emit.target import TargetDescription

__all__ = [
    "LoadOptions",
    "ModelSourceUnknown",
    "find_prepared",
    "load",
    "open_artifact",
    "open_prepared",
    "prepare",
    "read_graph",
]


@dataclass(eq=False, kw_only=True)
class ModelSourceUnknown(ValidationError):
    """The path is no ONNX file, Hugging Face folder, graph text or compiled artifact."""

    code = "validation.model_source"
    owner = "product"
    template = "{source!r} is not a model: {reason}"

    source: str
    reason: str


@dataclass(eq=False, kw_only=True)
class LoadOptionRefused(ValidationError):
    """A parameter of `load` has a value that cannot be used."""

    code = "validation.load_option"
    owner = "product"
    template = "{option} = {value}: {reason}"

    option: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What the caller decides about loading; a field that changes code takes part in the cache key."""

    threads: int = 1
    symbols: Mapping[str, int] = field(default_factory=dict)
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    memory_budget: int | None = None
    contexts: int = 1
    streams: int = 1
    max_segment_ns: int | None = None
    digest: str | None = None
    target: str | None = None
    use_cache: bool = True
    progress: Callable[[str], None] = lambda stage: None
    default_batch: int = 0


def load(
    source: str | os.PathLike[str] | bytes,
    *,
    threads: int = 1,
    symbols: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
    memory_budget: int | None = None,
    contexts: int = 1,
    streams: int = 1,
    max_segment_ns: int | None = None,
    digest: str | None = None,
    target: str | None = None,
    use_cache: bool = True,
    progress: Callable[[str], None] = lambda stage: None,
    default_batch: int = 0,
) -> Model:
    """Load a model: compile it, or take the executable from the cache.

    Args:
        source: an ONNX file (path or bytes), a Hugging Face folder, a `.graph` text, or a compiled folder.
        threads: threads of one run. Models of less than about 50 us use one whatever is asked for.
        symbols: bound of each symbolic dimension, by name.
        shapes: shapes of inputs that the model leaves open.
        constants: inputs to bind at build, by name.
        memory_budget: most bytes for weights, state and all contexts; a larger plan is refused before
            weights are read.
        contexts: arenas to make now, which is how many `run` calls go at once.
        streams: streams that the segments of one context may use at once, with events between them;
            independent branches then share no memory.
        max_segment_ns: longest segment wanted, by estimated cost on one core; None for one segment. A single
            step above it is a segment of its own.
        digest: expected SHA-256 of the model file.
        target: instruction set to compile for; default: the widest of this machine.
        use_cache: whether to look into and fill the user's cache.
        progress: called with the name of each stage as it starts.
        default_batch: bound of a leading symbol that `symbols` does not name; 0: it is refused.

    Returns:
        A `Model`; for a Hugging Face folder a `TextEncoder`, which also has `encode(texts)`.

    Raises:
        PlumblineError: a leaf that says what is wrong with the file, the request or the machine.
    """
    chosen = LoadOptions(
        threads=threads, symbols=symbols or {}, shapes=shapes or {}, constants=constants or {},
        memory_budget=memory_budget, contexts=contexts, streams=streams, max_segment_ns=max_segment_ns,
        digest=digest, target=target,
        use_cache=use_cache, progress=progress, default_batch=default_batch,
    )  # fmt: skip
    _verify_counts(chosen)
    settings = read_settings()
    if not isinstance(source, bytes) and (Path(source) / "manifest.json").is_file():
        return open_artifact(Path(source), chosen, settings)
    return open_prepared(prepare(source, chosen), source, chosen)


def find_prepared(source: str | os.PathLike[str] | bytes, options: LoadOptions) -> Path | None:
    """The folder of an executable in the user's cache, or None where it must be compiled first."""
    settings = read_settings()
    cache = ArtifactCache(settings.cache_dir / "executables", settings.cache_max_bytes)
    return cache.find(_key(source, options, settings)) if options.use_cache else None


def prepare(source: str | os.PathLike[str] | bytes, options: LoadOptions) -> Path:
    """Compile a model into the user's cache without opening it, unless it is there.

    Returns:
        The folder of the executable.

    Raises:
        PlumblineError: as `load`.
    """
    settings = read_settings()
    cache = ArtifactCache(settings.cache_dir / "executables", settings.cache_max_bytes)
    key = _key(source, options, settings)
    folder = cache.find(key) if options.use_cache else None
    return folder or _compile(source, options, settings, cache, key)


def open_prepared(folder: Path, source: str | os.PathLike[str] | bytes, options: LoadOptions) -> Model:
    """Open what `prepare` or `find_prepared` gave for the same source and options.

    `options.contexts` may be 0, for a caller who makes contexts of his own.
    """
    if _is_encoder_folder(source):
        return _open_folder(folder, options, partial(TextEncoder, text=_text_settings(source)))
    return _open_folder(folder, options)


def _verify_counts(options: LoadOptions) -> None:
    """Threads, contexts and streams are whole numbers from 1 on.

    Raises:
        LoadOptionRefused: naming the first that is not, or `threads` above what a device can have.
    """
    for option in ("threads", "contexts", "streams"):
        value = getattr(options, option)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise LoadOptionRefused(
                option=option, value=repr(value), reason="expected a whole number from 1 on"
            )
    if options.threads > MAX_THREADS:
        raise LoadOptionRefused(
            option="threads", value=repr(options.threads), reason=f"at most {MAX_THREADS} are possible"
        )


def read_graph(source: str | os.PathLike[str] | bytes, options: LoadOptions) -> ExecutionGraph:
    """Import a model file without compiling it."""
    if not options.default_batch:
        return _read_graph(source, options)
    from plumbline.compiler.importers.onnx.refusals import SymbolUnbounded

    while True:
        try:
            return _read_graph(source, options)
        except SymbolUnbounded as error:
            if error.axis != 0 or error.symbol in options.symbols:
                raise
            symbols = {**options.symbols, error.symbol: options.default_batch}
            options = replace(options, symbols=symbols)


def _read_graph(source: str | os.PathLike[str] | bytes, options: LoadOptions) -> ExecutionGraph:
    if isinstance(source, bytes) or Path(source).suffix == ".onnx":
        from plumbline.compiler.importers.onnx import ImportOptions, import_onnx

        chosen = ImportOptions(
            symbols=options.symbols, shapes=options.shapes, constants=options.constants,
            expected_digest=options.digest,
        )  # fmt: skip
        data = source if isinstance(source, bytes) else Path(source)
        return import_onnx(data, chosen, file_identity=_content_digest(source))
    path = Path(source)
    if _is_encoder_folder(path):
        from plumbline.compiler.importers.huggingface import import_encoder

        cache = read_settings().cache_dir
        return import_encoder(path, options.symbols, digest=lambda p: digest_file(p, cache_folder=cache))
    found = find_format(path)
    if found is not None and path.is_file():
        given = FormatOptions(symbols=options.symbols, shapes=options.shapes, constants=options.constants)
        return read_model_file(path, found, given)
    if path.suffix == ".graph" and path.is_file():
        from plumbline.compiler.graph.text import parse_graph

        try:
            return parse_graph(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            reason = f"byte {error.start} is not UTF-8"
            raise ModelSourceUnknown(source=path.name, reason=reason) from error
    raise ModelSourceUnknown(
        source=path.name,
        reason="expected a .onnx file, a folder with config.json, a .graph text or an artifact",
    )


def _is_encoder_folder(source: str | os.PathLike[str] | bytes) -> TypeGuard[str | os.PathLike[str]]:
    """Whether a source is a folder in Hugging Face layout."""
    if isinstance(source, bytes):
        return False
    return any((Path(source) / name).is_file() for name in ("config.json", "modules.json"))


def _text_settings(source: str | os.PathLike[str]) -> TextSettings:
    """How the texts of an encoder folder become tokens."""
    from plumbline.compiler.importers.huggingface import read_encoder_folder

    found = read_encoder_folder(Path(source))
    return TextSettings(
        tokenizer=found.tokenizer,
        max_tokens=found.sentence.max_tokens,
        vocabulary=found.config.vocabulary,
        lowercase=found.sentence.lowercase,
        prompt=found.sentence.prompt,
        assumptions=found.sentence.assumptions,
    )


def open_artifact(folder: Path, options: LoadOptions, settings: Settings) -> Model:
    """Open a compiled folder.

    Its native code is used only inside the user's own cache; elsewhere the planned program is verified and
    lowered again.
    """
    inside = settings.cache_dir.resolve() in folder.resolve().parents
    if inside:
        return _open_alone(folder, options)
    from plumbline.compiler.relower import relower

    _verify_budget(read_manifest(folder), options)
    return _open_alone(relower(folder, settings), options)


def build_options(options: LoadOptions, settings: Settings) -> BuildOptions:
    """Options of the compiler from those of the caller."""
    from plumbline.compiler.build import BuildOptions

    return BuildOptions(
        target=choose_target(options.target or settings.target), threads=options.threads,
        memory_budget=options.memory_budget, contexts=options.contexts, max_segment_ns=options.max_segment_ns,
        streams=options.streams,
    )  # fmt: skip


def choose_target(name: str | None) -> TargetDescription:
    """The named target description, or the widest that this machine runs.

    Raises:
        LoadOptionRefused: no target has that name.
    """
    from plumbline.compiler.build import choose_target as widest
    from plumbline.kernels.emit.target import TARGETS

    if name is None:
        return widest(read_flags())
    if name not in TARGETS:
        raise LoadOptionRefused(option="target", value=name, reason=f"targets are: {', '.join(TARGETS)}")
    return TARGETS[name]


@lru_cache(maxsize=1)
def read_flags() -> frozenset[str]:
    """Instruction set flags of this machine, measured once; empty where the system does not say."""
    return frozenset(measure_processor().flags or ())


@lru_cache(maxsize=1)
def cpu_device() -> CpuDevice:
    """The processor of this machine, opened once."""
    return CpuDevice(max_streams=4096)


_compile_lock = threading.Lock()
SERVING_FILES = frozenset({"version.toml", "calibration.json"})
"""Say how a version is served; no executable depends on them."""
UNCACHED_PREFIX = "uncached-"
"""Executables that were not to be cached; they go when their model is closed."""


def _compile(
    source: str | os.PathLike[str] | bytes,
    options: LoadOptions,
    settings: Settings,
    cache: ArtifactCache,
    key: str,
) -> Path:
    with _compile_lock:
        found = cache.find(key) if options.use_cache else None
        if found is not None:
            return found
        options.progress("read")
        graph = read_graph(source, options)
        chosen = build_options(options, settings)
        if not options.use_cache:
            folder = Path(tempfile.mkdtemp(prefix=UNCACHED_PREFIX, dir=cache.root))
            _fill(folder, source, graph, chosen, options.progress)
            return folder
        with cache.make(key) as staging:
            _fill(staging, source, graph, chosen, options.progress)
    folder_or_none = cache.find(key)
    if folder_or_none is None:
        raise ModelSourceUnknown(
            source=_label(source), reason="the executable left the cache while it was made"
        )
    return folder_or_none


def _fill(
    folder: Path,
    source: str | os.PathLike[str] | bytes,
    graph: ExecutionGraph,
    options: BuildOptions,
    progress: Callable[[str], None],
) -> None:
    from plumbline.compiler.build import compile_graph

    compile_graph(graph, options, folder, progress)
    if _is_encoder_folder(source):
        carry_text_settings(folder, _text_settings(source))


def _open_alone(folder: Path, options: LoadOptions) -> Model:
    """Open an executable without the model that it was made from."""
    text = read_text_settings(folder, read_manifest(folder))
    return _open_folder(folder, options, Model if text is None else partial(TextEncoder, text=text))


def _open_folder(folder: Path, options: LoadOptions, make: Callable[..., Model] = Model) -> Model:
    manifest = read_manifest(folder)
    _verify_budget(manifest, options)
    library = _library(folder, manifest)
    weights_path = folder / "weights.bin"
    weights = np.memmap(weights_path, np.uint8, "r") if weights_path.stat().st_size else np.empty(0, np.uint8)
    return make(
        manifest, weights, library, cpu_device(), contexts=options.contexts, folder=folder,
        streams=options.streams, on_close=_on_close(folder),
    )  # fmt: skip


def _on_close(folder: Path) -> Callable[[], None]:
    """Remove an executable that nobody else can find."""
    if folder.name.startswith(UNCACHED_PREFIX):
        return partial(shutil.rmtree, folder, ignore_errors=True)
    return lambda: None


def _verify_budget(manifest: Manifest, options: LoadOptions) -> None:
    total = manifest.plan.total_bytes(options.contexts)
    if options.memory_budget is not None and total > options.memory_budget:
        from plumbline.compiler.planning.memory import MemoryBudgetError

        raise MemoryBudgetError(
            required_bytes=total,
            weights_bytes=manifest.plan.weights_bytes,
            state_bytes=manifest.plan.state_bytes,
            contexts=options.contexts,
            arena_bytes=manifest.plan.peak_bytes,
            budget_bytes=options.memory_budget,
        )


def _library(folder: Path, manifest: Manifest) -> CodeLibrary:
    needed = _flags_of(manifest.target)
    if not needed <= read_flags() and manifest.system == "linux":
        raise TargetMismatch(
            wanted=manifest.target, found=", ".join(sorted(needed - read_flags())) + " missing"
        )
    shared = folder / "code.so"
    if shared.is_file():
        return SharedLibrary(shared)
    from plumbline.compiler.lowering.link import JitLibrary

    return JitLibrary((folder / "code.o").read_bytes(), manifest.name)


def _flags_of(target: str) -> frozenset[str]:
    from plumbline.kernels.emit.target import TARGETS

    return TARGETS[target].required_flags if target in TARGETS else frozenset({f"target {target}"})


def _key(source: str | os.PathLike[str] | bytes, options: LoadOptions, settings: Settings) -> str:
    if options.digest is not None and not isinstance(source, bytes):
        verify_digest(Path(source), options.digest)
    return cache_key(
        {
            "content": (content := _content_digest(source)),
            "external": _external_identities(source, content),
            "source": source_fingerprint(),
            "target": options.target or settings.target or sorted(read_flags()),
            "threads": options.threads,
            "symbols": sorted(options.symbols.items()),
            "shapes": sorted((k, tuple(v)) for k, v in options.shapes.items()),
            "constants": sorted((k, _array_digest(v)) for k, v in options.constants.items()),
            "max_segment_ns": options.max_segment_ns,
            "streams": options.streams,
            "default_batch": options.default_batch,
            "format": _format_name(source),
        }
    )


def _content_digest(source: str | os.PathLike[str] | bytes) -> str:
    if isinstance(source, bytes):
        return digest_bytes(source)
    path = Path(source)
    remembered = read_settings().cache_dir
    if path.is_dir():
        from plumbline.compiler.importers.huggingface import settings_files

        parts = [part for part in settings_files(path) if part.name not in SERVING_FILES]
        return json.dumps(
            [[str(p.relative_to(path)), digest_file(p, cache_folder=remembered)] for p in parts]
        )
    return digest_file(path, cache_folder=remembered)


def _format_name(source: str | os.PathLike[str] | bytes) -> str:
    """Name of the registered format that reads a file; empty for our own, which tell files by content."""
    found = None if isinstance(source, bytes) else find_format(Path(source))
    return "" if found is None else found.name


def _external_identities(source: str | os.PathLike[str] | bytes, digest: str) -> tuple[str, ...]:
    """Weights beside an ONNX file: they may change while the model file stays the same."""
    if isinstance(source, bytes) or Path(source).suffix != ".onnx":
        return ()
    from plumbline.compiler.importers.external_files import external_identities

    return external_identities(Path(source), digest, read_settings().cache_dir)


def _array_digest(array: np.ndarray) -> str:
    dense = np.ascontiguousarray(array)
    return f"{dense.dtype}{dense.shape}{digest_bytes(dense.tobytes())}"


def _label(source: str | os.PathLike[str] | bytes) -> str:
    return "<bytes>" if isinstance(source, bytes) else Path(source).name
