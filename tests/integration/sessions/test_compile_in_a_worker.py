"""A version that was not compiled before, in a real worker process: refused, and a point in its trace."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.integration.sessions.conftest import classifier

from plumbline.contracts.models import VersionKind
from plumbline.contracts.versions import VersionSpec
from plumbline.product.cli import main as plumb
from plumbline.product.serving.options import WorkerOptions
from plumbline.product.serving.prepare import prepare_apart
from plumbline.product.serving.worker import worker_command
from plumbline.product.sessions import CompileWhileServing
from plumbline.serving.workers.pool import ProcessPool


def test_a_compile_while_serving_is_refused_by_the_worker_and_is_a_violation_in_its_trace(
    make_spec: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Compiling belongs to prepare; whoever forgets it finds the point where everything else is."""
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", str(tmp_path / "cache"))
    files = {"model.onnx": classifier(seed=4711)}
    spec = make_spec("late", VersionKind.MODEL, "model.onnx", files)

    asyncio.run(asyncio.wait_for(in_a_worker(spec, tmp_path / "logs"), 120))

    (file,) = (tmp_path / "logs" / "w0-g1").glob("trace-*.jsonl")
    points = [json.loads(line) for line in file.read_text().splitlines()]
    told = [(p["event"], p["version"]) for p in points if "version" in p]
    assert told == [("compile_while_serving", "late@1"), ("version_loaded", "late@1")]
    assert plumb(["trace", "check", str(file)]) == 0, capsys.readouterr()


async def in_a_worker(spec: VersionSpec, logs: Path) -> None:
    """Load before it is prepared, then after."""
    logs.mkdir()
    pool = ProcessPool(worker_command(WorkerOptions(trace=True)), count=1, log_folder=logs)
    await pool.start()
    try:
        with pytest.raises(CompileWhileServing) as found:
            await pool.load(spec)
        assert found.value.version == "late@1"
        assert not executables(logs.parent / "cache"), "nothing was compiled"
        await prepare_apart(spec)
        assert executables(logs.parent / "cache")
        await pool.load(spec)
    finally:
        await pool.stop(drain=True, timeout_s=30)


def executables(cache: Path) -> list[Path]:
    """Folders of compiled models."""
    return [path.parent for path in cache.rglob("manifest*")]
