"""`plumb bench`: our runtime and its peers, taking turns in one process."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

from plumbline.product.cli.answer import Answer, table, write_text
from plumbline.product.cli.arguments import add_document_file
from plumbline.product.cli.exit_codes import ExitCode

ERROR_LIMIT = 1e-3
"""Largest difference from a peer, relative to its largest output, with which a row counts as right."""


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb bench`."""
    add = parser.add_argument
    add("--suite", choices=["cpu"], default="cpu", help="which models (default cpu)")
    add(
        "--vs",
        type=_names,
        default=("onnxruntime", "openvino"),
        metavar="A,B",
        help="peers (default onnxruntime,openvino; `none` for none)",
    )
    add("--threads", type=_counts, default=(1, 2), metavar="1,2", help="numbers of threads (default 1,2)")
    add("--models", type=_names, metavar="A,B", help="these models only; `all` adds those without a figure")
    add(
        "--blocks", type=_count, default=5, metavar="N", help="quiet blocks wanted of each engine (default 5)"
    )
    add("--rounds", type=_count, default=12, metavar="N", help="most blocks of each engine (default 12)")
    add("--busy-core", action="store_true", help="keep one core busy with another process meanwhile")
    add("--markdown", metavar="FILE", help="also write the table as Markdown")
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """Measure; exit code 1 where an output was wrong or a model ended its process."""
    from plumbline.product.bench.markdown import render_markdown
    from plumbline.product.bench.measure import BlockOptions
    from plumbline.product.bench.suite import BenchOptions, run_suite
    from plumbline.product.cli.progress import StageProgress

    models = _chosen(arguments.models)
    if arguments.document_file is not None:
        Path(arguments.document_file).parent.mkdir(parents=True, exist_ok=True)
    blocks = BlockOptions(wanted=arguments.blocks, rounds=max(arguments.rounds, arguments.blocks))
    with StageProgress(quiet=arguments.json) as stages:
        options = BenchOptions(
            peers=arguments.vs,
            threads=arguments.threads,
            blocks=blocks,
            busy_core=arguments.busy_core,
            starting=lambda name: stages.start(f"measuring {name}"),
            progress=stages.write,
        )
        document = run_suite(models, options)
    if arguments.markdown is not None:
        write_text(arguments.markdown, render_markdown(document))
    wrong = any("crashed" in row for row in document["rows"]) or any(
        error > ERROR_LIMIT for row in document["rows"] for error in row.get("max_error", {}).values()
    )
    return Answer(
        document=document, text=_text(document), exit_code=ExitCode.CHECK_FAILED if wrong else ExitCode.OK
    )


def _chosen(names: tuple[str, ...] | None) -> list[Any]:
    from plumbline.product.bench.models import CPU_SUITE, MODELS
    from plumbline.product.cli.entry import CommandLineRefused

    if names is None:
        return list(CPU_SUITE)
    if names == ("all",):
        return list(MODELS.values())
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        reason = f"there is no model {unknown[0]!r}; models: {', '.join(MODELS)}"
        raise CommandLineRefused(command="plumb bench", reason=reason)
    return [MODELS[name] for name in names]


def _text(document: dict[str, Any]) -> str:
    rows = [
        [
            r["model"],
            r["threads"],
            _ms(r.get("ours_ms")),
            " ".join(map(_ms, r.get("peers_ms", {}).values())),
            _ratio(r.get("ratio")),
            _ratio(r.get("wanted")),
            _percent(r.get("peak_fraction")),
            _remark(r),
        ]
        for r in document["rows"]
    ]
    peers = " ".join(n for n in document["versions"] if n not in ("plumbline", "python", "onnx")) or "none"
    lines = [
        table(rows, ["model", "threads", "ours ms", f"peers ms ({peers})", "ratio", "wanted", "of peak", ""])
    ]
    lines += ["", f"geometric mean of the ratios: {_ratio(document['geomean_ratio'])}"]
    return "\n".join(lines)


def _remark(row: dict[str, Any]) -> str:
    return next((word for word in ("crashed", "refused", "disturbed") if row.get(word)), "")


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise ArgumentTypeError(f"{text!r} names nothing")
    return () if names == ("none",) else names


def _counts(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(_count(part) for part in text.split(",")))


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 1000):
        raise ArgumentTypeError(f"{text!r} is not a number of 1 to 1000")
    return int(text)
