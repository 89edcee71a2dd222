"""Cases in child processes: a case that ends its process costs that case and nothing else."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plumbline.testing.onnx_suite.cases import KINDS, SuiteCase, load_cases
from plumbline.testing.onnx_suite.report import CaseResult, Outcome, SuiteReport

__all__ = ["run_cases", "run_onnx_suite"]

Progress = Callable[[int, int], None]

BATCH = 128
"""Cases of one child process: enough that its start costs little, few enough that two end together."""
CASE_TIMEOUT_S = 120.0


def run_onnx_suite(
    kinds: Sequence[str] = KINDS,
    names: Sequence[str] | None = None,
    *,
    operator: str | None = None,
    jobs: int = 2,
    progress: Progress = lambda done, total: None,
) -> SuiteReport:
    """Run the suite.

    Args:
        kinds: parts of the suite.
        names: regular expressions that select cases; None means all.
        operator: only cases of this operator.
        jobs: child processes at a time.
        progress: called with the number of finished and of all cases.
    """
    cases, excluded = load_cases(kinds, names, operator)
    return SuiteReport(results=run_cases(cases, jobs=jobs, progress=progress), excluded=excluded)


def run_cases(
    cases: Sequence[SuiteCase], *, jobs: int = 2, progress: Progress = lambda done, total: None
) -> tuple[CaseResult, ...]:
    """Judge cases in child processes; results in the order of the cases."""
    size = max(1, min(BATCH, -(-len(cases) // max(jobs, 1))))
    batches = [cases[i : i + size] for i in range(0, len(cases), size)]
    done = 0
    results: list[CaseResult] = []
    workers = ThreadPoolExecutor(max(jobs, 1))
    with tempfile.TemporaryDirectory(prefix="onnx-suite-") as folder, workers as pool:
        tasks = [pool.submit(_run_batch, batch, Path(folder) / str(i)) for i, batch in enumerate(batches)]
        for task in tasks:
            results += task.result()
            done = len(results)
            progress(done, len(cases))
    return tuple(results)


def _run_batch(cases: Sequence[SuiteCase], folder: Path) -> list[CaseResult]:
    """Start children until every case has a result."""
    folder.mkdir()
    results: list[CaseResult] = []
    attempt = 0
    while len(results) < len(cases):
        attempt += 1
        ended = _run_child(cases[len(results) :], folder / str(attempt))
        results += ended.results
        if len(results) < len(cases):
            results.append(_crash(cases[len(results)], ended))
    return results


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    results: list[CaseResult]
    status: int | None
    words: str


def _run_child(cases: Sequence[SuiteCase], folder: Path) -> _Ended:
    folder.mkdir()
    source, results = folder / "cases", folder / "results"
    source.write_bytes(pickle.dumps(list(cases)))
    results.touch()
    command = [sys.executable, "-m", "plumbline.testing.onnx_suite.worker", str(source), str(results)]
    with (folder / "words").open("wb") as words:
        child = subprocess.Popen(command, stdout=words, stderr=words)
        status = _wait(child, results)
    text = (folder / "words").read_text(encoding="utf-8", errors="replace")
    return _Ended(results=_read(results), status=status, words=text[-400:])


def _wait(child: subprocess.Popen[bytes], results: Path) -> int | None:
    """Exit status; None where it made no progress in time and was ended."""
    while True:
        before = results.stat().st_size
        try:
            return child.wait(CASE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            if results.stat().st_size == before:
                child.kill()
                child.wait()
                return None


def _read(path: Path) -> list[CaseResult]:
    documents = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [_decode(d["result"]) for d in documents if "result" in d]


def _decode(document: dict[str, Any]) -> CaseResult:
    return CaseResult(**{**document, "outcome": Outcome(document["outcome"])})


def _crash(case: SuiteCase, ended: _Ended) -> CaseResult:
    reason = f"the process ended with {ended.status}"
    if ended.status is None:
        reason = f"no answer in {CASE_TIMEOUT_S:.0f} s"
    detail = f"{reason}: {' '.join(ended.words.split())}"
    return CaseResult(
        name=case.name, kind=case.kind, operator=case.operator, outcome=Outcome.CRASHED, detail=detail
    )  # fmt: skip
