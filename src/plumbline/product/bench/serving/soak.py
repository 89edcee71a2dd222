"""A server under load for a long time: memory, handles, threads and bytes on disk must stay flat."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plumbline.errors import PlumblineError
from plumbline.product.bench.serving.load import run_paced
from plumbline.product.bench.serving.processes import ServerProcess, free_port, process_tree
from plumbline.product.bench.serving.setting import prepare_setting
from plumbline.product.bench.serving.targets import MODELS, Target, ask, our_targets

__all__ = ["Sample", "SoakLimits", "judge", "read_sample", "run_soak", "slope_per_minute"]

_CHUNK_S = 5.0
_CONNECTIONS = 4
_TEXT_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A process at a moment.

    Attributes:
        at_s: since the start of the load.
        process: gateway or worker.
        rss_bytes: resident, without `shared_bytes`.
        handles: open ones.
        threads: of it.
        shared_bytes: resident of the file that tensors cross in: of fixed size, touched bit by bit as its
            ring goes round for the first time.
    """

    at_s: float
    process: str
    rss_bytes: int
    handles: int
    threads: int
    shared_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakLimits:
    """What counts as flat, over the samples after the first third.

    Attributes:
        rss_bytes_per_minute: largest slope of a process's memory.
        handles_per_minute, threads_per_minute: largest slope of each.
        disk_bytes: most that logs and store may take at any time.
    """

    rss_bytes_per_minute: float = 128 * 1024
    handles_per_minute: float = 0.1
    threads_per_minute: float = 0.1
    disk_bytes: int = 96 << 20


def run_soak(
    work: Path,
    *,
    minutes: float,
    rate: float,
    sample_s: float,
    limits: SoakLimits,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Serve both models in workers for so long at a steady rate, one text to ten null requests.

    Args:
        work: folder for models, state and logs.
        minutes: of load.
        rate: requests per second of the null model.
        sample_s: between samples.
        limits: what counts as flat.
        progress: told each sample.

    Returns:
        A document with `passed`, `flaws`, `requests`, `errors`, `slopes`, `samples`, `disk`.

    Raises:
        ServerNotReady: the server does not come up.
    """
    setting = prepare_setting(work)
    target = our_targets(setting.repository, work, ["workers"])[0]
    port = free_port()
    command = [str(port) if part == "PORT" else part for part in target.command]
    server = ServerProcess(target.name, command, target.environment, work / "soak.log")
    try:
        for model in MODELS:
            server.wait_until(lambda model=model: _flaw(port, target, model), 90.0)  # type: ignore[misc]
        load = _Load(port, target, rate)
        load.start()
        samples, disk = _watch(server.pid, work / "workers", minutes * 60, sample_s, progress)
        load.stop()
    finally:
        server.stop()
    flaws, slopes = judge(samples, disk, limits)
    if load.errors:
        flaws.append(f"{load.errors} requests failed: {load.reason}")
    return {
        "minutes": minutes, "rate": rate, "passed": not flaws, "flaws": flaws,
        "requests": load.requests, "errors": load.errors, "limits": asdict(limits), "slopes": slopes,
        "disk": disk, "samples": [asdict(sample) for sample in samples],
    }  # fmt: skip


def _watch(
    root: int, state: Path, seconds: float, sample_s: float, progress: Callable[[str], None]
) -> tuple[list[Sample], list[tuple[float, int]]]:
    began = time.monotonic()
    samples: list[Sample] = []
    disk: list[tuple[float, int]] = []
    while (at_s := time.monotonic() - began) < seconds:
        found = [read_sample(pid, at_s, root) for pid in process_tree(root)]
        taken = [sample for sample in found if sample is not None]
        samples += taken
        disk.append((round(at_s, 1), _bytes_below(state)))
        progress(
            f"{at_s:.0f} s: "
            + ", ".join(f"{s.process} {s.rss_bytes >> 20} MiB {s.handles} handles" for s in taken)
            + f", {disk[-1][1] >> 10} KiB on disk"
        )
        time.sleep(min(sample_s, max(0.0, seconds - at_s)))
    return samples, disk


def read_sample(pid: int, at_s: float, root: int) -> Sample | None:
    """A process now; None when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        handles = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return None
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    if "VmRSS" not in facts:
        return None
    shared_bytes = _kib(facts, "RssShmem")
    return Sample(
        at_s=round(at_s, 1), process="gateway" if pid == root else f"worker {pid}",
        rss_bytes=_kib(facts, "VmRSS") - shared_bytes, handles=handles,
        threads=int(facts["Threads"]), shared_bytes=shared_bytes,
    )  # fmt: skip


def _kib(facts: dict[str, str], name: str) -> int:
    return int(facts.get(name, "0 kB").split()[0]) * 1024


def judge(
    samples: Sequence[Sample], disk: Sequence[tuple[float, int]], limits: SoakLimits
) -> tuple[list[str], dict[str, dict[str, float]]]:
    """What is not flat, and the slopes of each process per minute. Pure."""
    flaws: list[str] = []
    slopes: dict[str, dict[str, float]] = {}
    end_s = max((sample.at_s for sample in samples), default=0.0)
    names = dict.fromkeys(sample.process for sample in samples)
    if len(names) < 2:
        flaws.append("there were not a gateway and a worker to look at")
    for name in names:
        own = [sample for sample in samples if sample.process == name]
        if own[-1].at_s < end_s or own[0].at_s > 0.1 * end_s + 1.0:
            flaws.append(f"{name} was not there all the time")
        late = [sample for sample in own if sample.at_s >= end_s / 3]
        slopes[name] = {}
        for what in ("rss_bytes", "handles", "threads"):
            slope = slope_per_minute([(sample.at_s, getattr(sample, what)) for sample in late])
            slopes[name][what] = round(slope, 3)
            limit = getattr(limits, f"{what}_per_minute")
            if slope > limit:
                flaws.append(f"{name}: {what} grow by {slope:.3f} a minute, limit {limit:g}")
    most = max((size for _, size in disk), default=0)
    if most > limits.disk_bytes:
        flaws.append(f"{most} bytes on disk, limit {limits.disk_bytes}")
    return flaws, slopes


def slope_per_minute(points: Sequence[tuple[float, float]]) -> float:
    """Least squares through `(seconds, value)`; 0 of fewer than three."""
    if len(points) < 3:
        return 0.0
    middle_s = sum(at_s for at_s, _ in points) / len(points)
    middle = sum(value for _, value in points) / len(points)
    spread = sum((at_s - middle_s) ** 2 for at_s, _ in points)
    return 60.0 * sum((at_s - middle_s) * (value - middle) for at_s, value in points) / spread


class _Load:
    """A thread that keeps the load up, in pieces with connections of their own."""

    def __init__(self, port: int, target: Target, rate: float) -> None:
        self._port, self._target, self._rate = port, target, rate
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self.requests = self.errors = 0
        self.reason = ""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the piece under way."""
        self._ended.set()
        self._thread.join(120.0)

    def _run(self) -> None:
        pieces = (("echo", self._rate, _CHUNK_S), ("minilm", self._rate * _TEXT_SHARE, _CHUNK_S))
        while not self._ended.is_set():
            for model, rate, seconds in pieces:
                try:
                    question = self._target.question(model)
                    figures = run_paced(self._port, question, rate, _CONNECTIONS, seconds)
                    self.requests += int(rate * seconds)
                    self.errors += figures.errors
                    self.reason = self.reason or ("a status other than 200" if figures.errors else "")
                except (OSError, PlumblineError) as error:
                    self.errors += 1
                    self.reason = self.reason or str(error)
                    self._ended.wait(1.0)


def _flaw(port: int, target: Target, model: str) -> str:
    import http.client

    try:
        ask(port, target.question(model))
    except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
        return f"{model}: {error}"
    return ""


def _bytes_below(folder: Path) -> int:
    """Of logs and store; the copies of models do not change."""
    total = 0
    for path in folder.rglob("*"):
        if "copies" in path.parts:
            continue
        try:
            total += path.stat().st_blocks * 512 if path.is_file() else 0
        except OSError:  # a segment that was rotated away
            continue
    return total
