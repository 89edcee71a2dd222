"""Why a class failed, on the worker's own stderr: for its author and the operator, never for a client."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.versions import VersionSpec
from plumbline.engine.sessions.faults import fault_place, fault_traceback
from plumbline.errors import PlumblineError

__all__ = ["FaultNotes", "folders_of"]

_QUIET_S = 5.0
_MAX_PLACES = 64


class FaultNotes:
    """Owner of which folders are versions' and of what was printed when. Thread-safe.

    The same exception of the same line is printed once in five seconds, with the number of those left out, so
    that a class that fails every request does not fill the pipe.

    Args:
        output: where to print; stderr when left out.
        now_s: a monotonic clock.
    """

    def __init__(self, output: TextIO | None = None, now_s: Callable[[], float] = time.monotonic) -> None:
        self._output, self._now_s = output, now_s
        self._lock = threading.Lock()
        self._specs: dict[VersionRef, VersionSpec] = {}
        self._folders: tuple[Path, ...] = ()
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def know(self, spec: VersionSpec) -> None:
        """Name the files of this version, and of its stages, from now on."""
        with self._lock:
            self._specs[spec.ref] = spec
            self._look_up_folders()

    def forget(self, ref: VersionRef) -> None:
        """It is unloaded."""
        with self._lock:
            self._specs.pop(ref, None)
            self._look_up_folders()

    def _look_up_folders(self) -> None:
        known = (folder for spec in self._specs.values() for folder in folders_of(spec))
        self._folders = tuple(dict.fromkeys(known))

    def load_failed(self, spec: VersionSpec, error: BaseException) -> None:
        """Print why a version could not be loaded, when something else than a plain refusal is behind it; its
        files are forgotten.
        """
        cause = error.__cause__
        if cause is not None or not isinstance(error, PlumblineError) or self._place(error):
            self._print(f"load of {spec.ref} failed:\n{fault_traceback(cause or error, self._folders)}")
        self.forget(spec.ref)

    def call_failed(self, error: PlumblineError) -> None:
        """Print where a class failed a call, when one did."""
        raised = error.__cause__ or error
        place = self._place(raised)
        if not place:
            return
        key, now = (type(raised).__name__, place), self._now_s()
        with self._lock:
            last, left_out = self._told.get(key, (-_QUIET_S, 0))
            if key in self._told and now - last < _QUIET_S:
                self._told[key] = (last, left_out + 1)
                return
            if len(self._told) >= _MAX_PLACES:
                self._told.pop(next(iter(self._told)))
            self._told[key] = (now, 0)
        more = f"\n({left_out} more like it before)" if left_out else ""
        self._print(f"a call failed:\n{fault_traceback(raised, self._folders)}{more}")

    def _place(self, error: BaseException) -> str:
        return fault_place(error, self._folders)

    def _print(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads: the call is answered all the same
            print(text, file=self._output or sys.stderr, flush=True)


def folders_of(spec: VersionSpec) -> Iterator[Path]:
    """Of a version and all of its stages."""
    yield spec.folder
    for stage in spec.stages:
        yield from folders_of(stage)
