"""`plumb compile`: model file to executable, with what was decided on the way."""

from __future__ import annotations

import shutil
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from plumbline.product.cli.answer import Answer, OutputUnwritable, table
from plumbline.product.cli.arguments import add_model, add_output_file, load_options


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb compile`."""
    add_model(parser)
    parser.add_argument(
        "--explain", action="store_true", help="list what was fused, folded, laid out, refused, and why"
    )
    add_output_file(parser, "copy the executable into this new folder")


def execute(arguments: Namespace) -> Answer:
    """Compile, or find the executable in the cache."""
    from plumbline.product.cli.loading import load_model
    from plumbline.product.cli.progress import StageProgress

    with StageProgress(quiet=arguments.json) as stages:
        options = load_options(arguments, progress=stages.start)
        with load_model(arguments.model, options) as model:
            stages.stop()
            document = _document(model, stages.seconds)
            if arguments.out is not None and model.folder is not None:
                document["copied_to"] = copy_executable(model.folder, Path(arguments.out))
    text = _text(document)
    if arguments.explain:
        from plumbline.product.cli.decisions import decide, decisions_text

        document["explain"] = decide(arguments.model, options)
        text += "\n\n" + decisions_text(document["explain"])
    return Answer(document=document, text=text)


def copy_executable(folder: Path, target: Path) -> str:
    """Copy a compiled folder to `target`, which must not exist; returns its name.

    Raises:
        OutputUnwritable: it exists already, or cannot be written.
    """
    try:
        shutil.copytree(folder, target)
    except FileExistsError as error:
        raise OutputUnwritable(file=target.name, reason="it exists already") from error
    except (OSError, shutil.Error) as error:
        raise OutputUnwritable(
            file=target.name, reason=getattr(error, "strerror", None) or "copy failed"
        ) from error
    return str(target)


def _document(model: Any, seconds: dict[str, float]) -> dict[str, Any]:
    from plumbline.product.cli.decisions import batching_of

    manifest, plan = model.manifest, model.plan
    return {
        "schema_version": 1,
        "name": manifest.name,
        "digest": manifest.digest,
        "cached": "code" not in seconds,
        "build_seconds": {name: round(value, 6) for name, value in seconds.items()},
        "first_build_seconds": manifest.build_seconds,
        "target": manifest.target,
        "compiler": manifest.compiler,
        "threads": manifest.threads,
        "symbols": dict(manifest.symbols),
        "steps": len(manifest.step_names),
        "segments": len(manifest.segments),
        "plan": {
            "peak_bytes": plan.peak_bytes,
            "lower_bound_bytes": plan.lower_bound_bytes,
            "weights_bytes": plan.weights_bytes,
            "state_bytes": plan.state_bytes,
            "digest": plan.digest,
        },
        "batching": batching_of(manifest),
        "files": {path.name: path.stat().st_size for path in sorted(model.folder.iterdir())},
        "executable": model.folder.name,
    }


def _text(document: dict[str, Any]) -> str:
    from plumbline.product.cli.decisions import batching_text

    plan = document["plan"]
    took = sum(document["build_seconds"].values())
    stages = ", ".join(f"{name} {value:.3f}" for name, value in document["build_seconds"].items())
    built = "from the cache" if document["cached"] else f"built in {took:.3f} s ({stages})"
    rows = [
        ["digest", document["digest"]],
        ["executable", f"{document['executable']}, {built}"],
        [
            "code",
            f"{document['steps']} steps in {document['segments']} segments for {document['target']}, "
            f"{document['threads']} threads",
        ],
        ["requests", batching_text(document["batching"])],
        ["weights", f"{plan['weights_bytes']} bytes"],
        ["state", f"{plan['state_bytes']} bytes"],
        ["arena", f"{plan['peak_bytes']} bytes a context (lower bound {plan['lower_bound_bytes']})"],
        ["files", ", ".join(f"{name} {size}" for name, size in document["files"].items())],
    ]
    if "copied_to" in document:
        rows.append(["copied to", document["copied_to"]])
    return table(rows, [document["name"] or "model", ""])
