"""`plumb calibrate`: measure cost bounds of a model under load, for deadlines that can be promised."""

from __future__ import annotations

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from plumbline.product.cli.answer import Answer, table, to_json, write_text
from plumbline.product.cli.arguments import add_document_file, add_model, load_options, parse_count

if TYPE_CHECKING:
    from plumbline.engine.session import Session


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb calibrate`."""
    add_model(parser)
    add = parser.add_argument
    add(
        "--runs",
        type=parse_count,
        default=4000,
        metavar="N",
        help="runs that choose the bound (default 4000)",
    )
    add("--held-out", type=parse_count, metavar="N", help="runs that check it (default: a quarter)")
    add("--coverage", type=_share, default=0.999, metavar="P", help="share of runs to cover (default 0.999)")
    add("--confidence", type=_share, default=0.95, metavar="P", help="that it does (default 0.95)")
    add("--margin", type=float, default=0.2, metavar="SHARE", help="added to the bound (default 0.2)")
    add("--loaders", type=int, metavar="N", help="launches beside it (default: one for each other core)")
    add("--no-write", action="store_true", help="do not write calibration.json beside the model")
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """Measure, and write `calibration.json` beside the version."""
    from plumbline.engine.calibration import CalibrationOptions, calibrate
    from plumbline.product.cli.progress import StageProgress

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    loaders = max(1, cores // arguments.threads - 1) if arguments.loaders is None else arguments.loaders
    held_out = max(1, arguments.runs // 4) if arguments.held_out is None else arguments.held_out
    options = CalibrationOptions(
        runs=arguments.runs,
        coverage=arguments.coverage,
        confidence=arguments.confidence,
        margin=arguments.margin,
        held_out=held_out,
        loaders=loaders,
    )
    with StageProgress(quiet=arguments.json) as stages, ExitStack() as opened:
        session, facts = _open(arguments, stages.start, opened)
        opened.callback(session.close)
        stages.start("measuring")
        name, digest = session.metadata.ref.model, session.metadata.digest
        bound = calibrate(session, options)
    document = {**bound.document(), "name": name, "digest": digest, **facts}
    if not arguments.no_write:
        write_text(str(_folder(arguments.model) / "calibration.json"), to_json(document) + "\n")
        document["written"] = "calibration.json"
    return Answer(document=document, text=_text(document))


def _open(
    arguments: Namespace, progress: Callable[[str], None], opened: ExitStack
) -> tuple[Session, dict[str, Any]]:
    """The session, and what to note of it: a version folder as a server opens it, else by the options."""
    from plumbline.contracts.inference import VersionRef
    from plumbline.contracts.versions import VersionSettings
    from plumbline.engine.encoder import TextEncoder
    from plumbline.engine.sessions.model import ModelSession
    from plumbline.engine.sessions.text import TextSession
    from plumbline.product.cli.loading import load_model

    folder = _folder(arguments.model)
    if (folder / "pipeline.toml").is_file():
        progress("opening the pipeline")
        return _open_pipeline(folder, opened)
    if (folder / "version.toml").is_file():
        progress("opening the version")
        return _open_version(folder)
    model = load_model(arguments.model, load_options(arguments, progress=progress))
    ref = VersionRef(model=model.name, version="1")
    settings = VersionSettings(threads=arguments.threads, max_segment_ns=arguments.max_segment_ns)
    if isinstance(model, TextEncoder):
        return TextSession(ref, model, settings, digest=model.digest), {"threads": arguments.threads}
    return ModelSession(ref, model, settings, digest=model.digest), {"threads": arguments.threads}


def _open_version(folder: Path) -> tuple[Session, dict[str, Any]]:
    from plumbline.contracts.inference import VersionRef
    from plumbline.contracts.versions import VersionSpec
    from plumbline.engine.calibration import verify_measurable
    from plumbline.product.sessions import open_session
    from plumbline.serving.repository.contents import decide_kind
    from plumbline.serving.repository.settings import read_version_toml

    subject = f"{folder.parent.name}@{folder.name}"
    settings, entry = read_version_toml(folder, subject=subject)
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    kind, found = decide_kind(names, entry, subject=subject)
    ref = VersionRef(model=folder.parent.name, version=folder.name)
    verify_measurable(kind, str(ref))
    spec = VersionSpec(ref=ref, kind=kind, folder=folder, entry=found, digest="", settings=settings)
    return open_session(spec), {"threads": settings.threads}


def _open_pipeline(folder: Path, opened: ExitStack) -> tuple[Session, dict[str, Any]]:
    """A pipeline with the stages that the repository around its folder has for it; without its old bounds."""
    from plumbline.contracts.inference import VersionRef
    from plumbline.engine.calibration import verify_measurable
    from plumbline.product.calibrated_stages import stage_digests
    from plumbline.product.sessions import open_session
    from plumbline.serving.repository.folder import FolderRepository
    from plumbline.serving.repository.specs import fetch_spec

    ref = VersionRef(model=folder.parent.name, version=folder.name)
    private = Path(opened.enter_context(TemporaryDirectory(prefix="plumb-calibrate-")))
    spec = fetch_spec(FolderRepository(folder.parent.parent), ref, private / "version")
    for stage in spec.stages:
        verify_measurable(stage.kind, str(stage.ref))
    unbounded = replace(spec.settings, cost_bound_ns=0, segment_bounds_ns=())
    session = open_session(replace(spec, settings=unbounded))
    return session, {"threads": spec.settings.threads, "stages": stage_digests(spec)}


def _folder(source: str) -> Path:
    path = Path(source).resolve()
    return path if path.is_dir() else path.parent


def _text(document: dict[str, Any]) -> str:
    columns = ("median_ns", "quantile_ns", "worst_ns", "segment_bounds_ns")
    rows = [
        [index, *(f"{document[column][index] / 1e6:.4f}" for column in columns)]
        for index in range(len(document["segment_bounds_ns"]))
    ]
    piece = "stage" if "stages" in document else "segment"
    lines = [table(rows, [piece, "median ms", "quantile ms", "worst ms", "bound ms"]), ""]
    lines.append(f"cost bound of a launch: {document['cost_bound_ns'] / 1e6:.4f} ms")
    lines.append(document["condition"])
    if "written" in document:
        lines.append("written beside the model: calibration.json")
    return "\n".join(lines)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise ArgumentTypeError(f"{text!r} is not a share between 0 and 1")
    return value
