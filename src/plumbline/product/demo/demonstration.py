"""The course of the demonstration: load, embed, ask, and account for memory and time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, cast

from rich.console import Console

from plumbline.config.settings import read_settings
from plumbline.engine.encoder import TextEncoder
from plumbline.product.compose import LoadOptions, load
from plumbline.product.demo.conversation import ask_until_done, show_hits
from plumbline.product.demo.docstrings import collect_passages
from plumbline.product.demo.evidence import DemoFiles, write_evidence
from plumbline.product.demo.model_folder import find_demo_model
from plumbline.product.demo.progress import watched
from plumbline.product.demo.search import SearchIndex

__all__ = ["QUESTIONS", "DemoReport", "run_demo"]

QUESTIONS = (
    "How do I delete a directory together with all files in it?",
    "make several threads wait for each other",
    "how can I find out how long my code takes",
    "split a command line into words like a shell",
)
MAX_THREADS = 4
QUERY_RUNS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """What the demonstration measured. Bytes are those of the plan, times are of this process.

    `from_cache` says whether the executable was found compiled; `build_seconds` is what its build took.
    """

    model: str
    digest: str
    threads: int
    weights_bytes: int
    peak_bytes: int
    lower_bound_bytes: int
    total_bytes: int
    build_seconds: float
    load_seconds: float
    from_cache: bool
    passages: int
    truncated: int
    tokens: int
    embed_seconds: float
    tokens_per_second: float
    query_ms: float
    answers: dict[str, list[dict[str, Any]]]
    plan_picture: str
    trace: str

    def document(self) -> dict[str, Any]:
        """The report as plain data, ready for JSON."""
        return {"schema_version": 1, **asdict(self)}


def run_demo(
    *,
    once: bool = False,
    threads: int | None = None,
    passages: int = 2400,
    questions: Sequence[str] = QUESTIONS,
    output: Path | None = None,
    console: Console | None = None,
) -> DemoReport:
    """Embed Python's documentation with all-MiniLM-L6-v2, answer questions about it, and show the books.

    Args:
        once: ask only `questions`; else go on with questions from the terminal.
        threads: of the model; default: the processors that this process may use, at most 4.
        passages: most docstrings.
        questions: asked first.
        output: folder for the memory-plan picture and the trace; default: `demo` in the cache folder.
        console: where to write; default: standard output.

    Raises:
        DemoModelMissing: the weights are not installed.
        PlumblineError: as `plumbline.load`.
    """
    console = console or Console(highlight=False)
    folder = find_demo_model()
    options = LoadOptions(threads=threads or _usable_threads())
    stages: list[str] = []
    began = time.perf_counter()
    with watched(console, "Loading all-MiniLM-L6-v2") as show:

        def progress(stage: str) -> None:
            stages.append(stage)
            show(stage)

        model = _load(folder, options, progress)
    load_seconds = time.perf_counter() - began
    with model:
        index, embed_seconds = _embed(model, passages, console)
        answers = {question: index.find(question) for question in questions}
        for question, hits in answers.items():
            show_hits(console, question, hits)
        with watched(console, "Drawing the memory plan and tracing one run"):
            files = write_evidence(model, folder, options, output or read_settings().cache_dir / "demo")
        report = DemoReport(
            model=model.name, digest=model.digest, threads=options.threads,
            weights_bytes=model.plan.weights_bytes, peak_bytes=model.plan.peak_bytes,
            lower_bound_bytes=model.plan.lower_bound_bytes, total_bytes=model.plan.total_bytes(1),
            build_seconds=model.manifest.build_seconds, load_seconds=load_seconds, from_cache=not stages,
            passages=len(index.vectors), truncated=index.truncated, tokens=index.tokens,
            embed_seconds=embed_seconds, tokens_per_second=index.tokens / max(embed_seconds, 1e-9),
            query_ms=_query_ms(model), plan_picture=str(files.plan_picture), trace=str(files.trace),
            answers={
                question: [{"name": h.passage.name, "score": round(h.score, 4)} for h in hits]
                for question, hits in answers.items()
            },
        )  # fmt: skip
        _show_books(console, report, files)
        if not once:
            ask_until_done(console, index)
    return report


def _usable_threads() -> int:
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(found, MAX_THREADS))


def _load(folder: Path, options: LoadOptions, progress: Callable[[str], None]) -> TextEncoder:
    return cast(TextEncoder, load(folder, threads=options.threads, progress=progress))


def _embed(model: TextEncoder, limit: int, console: Console) -> tuple[SearchIndex, float]:
    with watched(console, "Reading the documentation of Python", counted=True) as show:
        found = collect_passages(limit, show)
    began = time.perf_counter()
    with watched(console, f"Embedding {len(found)} docstrings", counted=True) as show:
        index = SearchIndex(model, found, show)
    return index, time.perf_counter() - began


def _query_ms(model: TextEncoder) -> float:
    """Median time of one question, tokenizer included."""
    spent = []
    for _ in range(QUERY_RUNS):
        began = time.perf_counter()
        model.encode([QUESTIONS[0]])
        spent.append(time.perf_counter() - began)
    return median(spent) * 1e3


def _show_books(console: Console, report: DemoReport, files: DemoFiles) -> None:
    built = "found in the cache" if report.from_cache else "compiled now"
    lines = [
        ("model", f"all-MiniLM-L6-v2 as {report.model}, {report.threads} threads"),
        ("graph", report.digest),
        ("weights", f"{report.weights_bytes:,} bytes"),
        ("arena (peak)", f"{report.peak_bytes:,} bytes"),
        ("lower bound", f"{report.lower_bound_bytes:,} bytes"),
        ("total", f"{report.total_bytes:,} bytes, for one context"),
        ("build", f"{report.build_seconds:.2f} s ({built}; loading took {report.load_seconds:.2f} s)"),
        ("embedding", f"{report.passages} docstrings, {report.tokens:,} tokens in"
                      f" {report.embed_seconds:.2f} s = {report.tokens_per_second:,.0f} tokens/s"),
        ("one question", f"{report.query_ms:.2f} ms"),
        ("memory plan", str(files.plan_picture)),
        ("trace", f"{files.trace}  (for a viewer: plumb trace export)"),
    ]  # fmt: skip
    console.print()
    for label, text in lines:
        console.print(f"{label:>13}  {text}", markup=False, soft_wrap=True)
