"""`WorkerTrace`: the trace points of one worker, from the engine and from what is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from plumbline.contracts.clock import MonotonicClock
from plumbline.contracts.versions import VersionSpec
from plumbline.engine.session import Session
from plumbline.serving.observability.trace_files import TraceFiles
from plumbline.telemetry.points import CompileViolation, VersionLoaded
from plumbline.telemetry.sinks import NULL_SINK, TraceSink

if TYPE_CHECKING:
    from plumbline.product.sessions import CompileWhileServing

__all__ = ["WorkerTrace"]


class WorkerTrace:
    """Owner of the trace files of a worker; without `is_on` there are none and nothing costs anything."""

    def __init__(self, is_on: bool) -> None:
        self._is_on = is_on
        self._files: TraceFiles | None = None

    def open(self, folder: Path | None) -> TraceSink:
        """Where the engine's points go: files in this folder."""
        if not self._is_on or folder is None:
            return NULL_SINK
        self._files = TraceFiles(folder)
        return self._files

    def watched(self, open_session: Callable[[VersionSpec], Session]) -> Callable[[VersionSpec], Session]:
        """The same, with a point for every version that was opened."""
        if not self._is_on:
            return open_session
        clock = MonotonicClock()

        def open_and_tell(spec: VersionSpec) -> Session:
            session = open_session(spec)
            if self._files is not None:
                point = VersionLoaded(
                    timestamp_ns=clock.now_ns(), version=str(spec.ref), digest=spec.digest,
                    revision=spec.revision[:200],
                )  # fmt: skip
                self._files.emit(point)
            return session

        return open_and_tell

    def violated(self, violation: CompileWhileServing) -> None:
        """A point for a version that was not compiled before it was to be opened."""
        if self._files is not None:
            now_ns = MonotonicClock().now_ns()
            self._files.emit(CompileViolation(timestamp_ns=now_ns, version=violation.version[:200]))

    def close(self) -> None:
        """Close the files. Closing twice is harmless."""
        if self._files is not None:
            self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
