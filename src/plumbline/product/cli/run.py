"""`plumb run`: run a model once or many times and show what came out."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

from plumbline.product.cli.answer import Answer, OutputUnwritable, table
from plumbline.product.cli.arguments import (
    add_document_file,
    add_model,
    load_options,
    parse_assignment,
    read_array,
)


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb run`."""
    add_model(parser)
    add = parser.add_argument
    add(
        "--input",
        action="append",
        default=[],
        metavar="NAME=F.npy",
        type=parse_assignment,
        help="an input array",
    )
    add(
        "--random",
        type=_seed,
        default=0,
        metavar="SEED",
        help="seed of generated inputs (default 0): normal numbers; integers and booleans are 0 or 1",
    )
    add("--repeat", type=_count, default=1, metavar="N", help="measured runs (default 1)")
    add("--output-dir", metavar="DIR", help="write each output as DIR/NAME.npy")
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """Run."""
    from plumbline.product.cli.arrays import generate_inputs, summarise
    from plumbline.product.cli.latency import measure_runs
    from plumbline.product.cli.loading import load_model
    from plumbline.product.cli.progress import StageProgress

    given = {name: read_array(file) for name, file in arguments.input}
    with StageProgress(quiet=arguments.json) as stages:
        options = load_options(arguments, progress=stages.start)
        with load_model(arguments.model, options) as model:
            stages.stop()
            inputs = generate_inputs(model, given, arguments.random)
            outputs, latency = measure_runs(lambda: model.run(inputs), arguments.repeat)
            document = {
                "schema_version": 1,
                "name": model.name,
                "digest": model.digest,
                "threads": model.manifest.threads,
                "generated_inputs": sorted(inputs.keys() - given.keys()),
                "latency_ns": latency,
                "outputs": {name: summarise(array) for name, array in outputs.items()},
            }
    if arguments.output_dir is not None:
        document["written"] = write_arrays(Path(arguments.output_dir), outputs)
    return Answer(document=document, text=_text(document))


def write_arrays(folder: Path, arrays: dict[str, Any]) -> list[str]:
    """Write arrays as `.npy`; characters of a name that no file name should have become `_`.

    Raises:
        OutputUnwritable: the folder or a file cannot be written.
    """
    import numpy as np

    written: list[str] = []
    for index, (name, array) in enumerate(arrays.items()):
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).lstrip(".")
        file = f"{safe or index}.npy" if f"{safe}.npy" not in written else f"{safe}_{index}.npy"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / file, array, allow_pickle=False)
        except OSError as error:
            raise OutputUnwritable(file=file, reason=(error.strerror or "unknown").lower()) from error
        written.append(file)
    return written


def _text(document: dict[str, Any]) -> str:
    rows = [
        [name, o["dtype"], "x".join(map(str, o["shape"])) or "scalar", o["min"], o["max"], o["mean"]]
        for name, o in document["outputs"].items()
    ]
    latency = document["latency_ns"]
    lines = [
        table([[_short(c) for c in row] for row in rows], ["output", "type", "shape", "min", "max", "mean"]),
        "",
    ]
    if document["generated_inputs"]:
        lines.append(f"generated inputs: {', '.join(document['generated_inputs'])}")
    median, low, high = (latency[k] / 1e6 for k in ("median", "p10", "p90"))
    lines.append(f"latency of {latency['runs']} runs: median {median:.4f} ms (p10 {low:.4f}, p90 {high:.4f})")
    return "\n".join(lines)


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 10_000_000):
        raise ArgumentTypeError(f"{text!r} is not a count of 1 to 10000000")
    return int(text)


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ArgumentTypeError(f"{text!r} is not a seed, a whole number from 0")
    return int(text)
