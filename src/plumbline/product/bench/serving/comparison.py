"""`compare_servers`: every server in turn, round after round, with nothing else running."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np

from plumbline.product.bench.serving.load import LoadFigures, run_paced, run_wrk
from plumbline.product.bench.serving.processes import ServerProcess, free_port
from plumbline.product.bench.serving.targets import MODELS, Target, ask

__all__ = ["ComparisonOptions", "Phase", "compare_servers", "installed_versions", "verdicts"]

_READY_S = 90.0
_WARM_S = 1.0
_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A load: closed loop with so many connections, or paced at a rate over so many."""

    name: str
    model: str
    connections: int
    rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonOptions:
    """Attributes:
    rounds: starts of each server.
    seconds: of each phase.
    rate: of the phase at equal load, requests per second.
    work: folder for logs.
    expected: the right numbers of each model.
    progress: told what happens.
    """

    rounds: int
    seconds: float
    rate: float
    work: Path
    expected: Mapping[str, np.ndarray]
    progress: Callable[[str], None] = lambda line: None

    def phases(self) -> tuple[Phase, ...]:
        """What each server goes through in each round."""
        return (
            Phase(name="null, 1 connection", model="echo", connections=1),
            Phase(name="null, 8 connections", model="echo", connections=8),
            Phase(name="null, 32 connections", model="echo", connections=32),
            Phase(name=f"null, {self.rate:g}/s", model="echo", connections=8, rate=self.rate),
            Phase(name="MiniLM, 1 connection", model="minilm", connections=1),
            Phase(name="MiniLM, 8 connections", model="minilm", connections=8),
        )


def compare_servers(targets: Sequence[Target], options: ComparisonOptions) -> list[dict[str, Any]]:
    """Rows `{server, phase, model, connections, rate, requests_per_s, p50_ms, p99_ms, errors, rounds}`.

    Figures are medians over the rounds; `rounds` holds each. One server runs at a time: it is started, its
    answers are compared with the right ones, it is measured, and it is ended with all its processes.

    Raises:
        ServerNotReady: one does not come up, or answers wrongly.
        LoadGeneratorMissing: there is no wrk.
    """
    found: dict[tuple[str, Phase], list[LoadFigures]] = {}
    for number in range(options.rounds):
        first = number % len(targets)
        for target in (*targets[first:], *targets[:first]):
            options.progress(f"round {number + 1} of {options.rounds}: {target.name}")
            for phase, figures in _measure(target, options):
                found.setdefault((target.name, phase), []).append(figures)
    return [
        _row(target.name, phase, found[target.name, phase])
        for phase in options.phases()
        for target in targets
    ]


def _measure(target: Target, options: ComparisonOptions) -> list[tuple[Phase, LoadFigures]]:
    port = free_port()
    command = [str(port) if part == "PORT" else part for part in target.command]
    environment = {**target.environment, "PLUMB_BENCH_PORT": str(port)}
    server = ServerProcess(target.name, command, environment, options.work / f"{target.name}.log")
    try:
        for model in MODELS:
            server.wait_until(lambda model=model: _flaw(port, target, model, options), _READY_S)  # type: ignore[misc]
        found = []
        for phase in options.phases():
            question = target.question(phase.model)
            run_wrk(port, question, phase.connections, _WARM_S)
            if phase.rate is None:
                figures = run_wrk(port, question, phase.connections, options.seconds)
            else:
                figures = run_paced(port, question, phase.rate, phase.connections, options.seconds)
            found.append((phase, figures))
            options.progress(
                f"  {phase.name}: {figures.requests_per_s:.0f}/s, p50 {figures.p50_ms:.3f} ms, "
                f"p99 {figures.p99_ms:.3f} ms, {figures.errors} errors"
            )
        return found
    finally:
        server.stop()
        time.sleep(0.5)


def _flaw(port: int, target: Target, model: str, options: ComparisonOptions) -> str:
    try:
        numbers = ask(port, target.question(model))
    except (OSError, ValueError, KeyError, HTTPException) as error:
        return f"{model}: {error}"
    right = options.expected[model]
    if numbers.shape != right.shape or float(np.abs(numbers - right).max()) > _TOLERANCE:
        return f"{model}: wrong numbers"
    return ""


def _row(server: str, phase: Phase, rounds: Sequence[LoadFigures]) -> dict[str, Any]:
    def middle(name: str) -> float:
        return float(statistics.median(getattr(figures, name) for figures in rounds))

    return {
        "server": server,
        "phase": phase.name,
        "model": phase.model,
        "connections": phase.connections,
        "rate": phase.rate,
        **{name: round(middle(name), 3) for name in ("requests_per_s", "p50_ms", "p99_ms")},
        "errors": sum(figures.errors for figures in rounds),
        "rounds": [asdict(figures) for figures in rounds],
    }


def verdicts(rows: Sequence[Mapping[str, Any]], ours: str = "plumbline") -> list[dict[str, Any]]:
    """For each phase, ours beside the best peer: requests per second, p50 and p99, as `ours / best`."""
    found = []
    for phase in dict.fromkeys(row["phase"] for row in rows):
        own = next((row for row in rows if row["phase"] == phase and row["server"] == ours), None)
        peers = [row for row in rows if row["phase"] == phase and not row["server"].startswith("plumbline")]
        if own is None or not peers:
            continue
        best = max(peers, key=lambda row: float(row["requests_per_s"]))
        found.append(
            {
                "phase": phase,
                "best_peer": best["server"],
                "requests_ratio": round(own["requests_per_s"] / max(best["requests_per_s"], 1e-9), 3),
                "p50_ratio": round(own["p50_ms"] / max(min(row["p50_ms"] for row in peers), 1e-9), 3),
                "p99_ratio": round(own["p99_ms"] / max(min(row["p99_ms"] for row in peers), 1e-9), 3),
            }
        )
    return found


def installed_versions(target: Target) -> dict[str, str]:
    """Versions in the environment of a server, Python's with them."""
    program = (
        "import sys\nfrom importlib.metadata import version, PackageNotFoundError\n"
        "print('python', sys.version.split()[0])\n"
        "for name in sys.argv[1:]:\n"
        "  try: print(name, version(name))\n"
        "  except PackageNotFoundError: pass\n"
    )
    answer = subprocess.run(
        [target.python, "-c", program, *target.distributions],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return dict(line.split(" ", 1) for line in answer.stdout.splitlines())
