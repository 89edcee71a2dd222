"""Versions for testing workers: what a version does is its entry, what a call does to its worker a parameter.

Entries: `echo` (x FP32 [-1] -> y the same, pid INT64 [1]), `text` (t BYTES [-1] -> u the same), `ballast:N`
(as echo, and holds N bytes), `refuse` (cannot be loaded), `slow:S` (as echo, loading takes S seconds),
`die:FILE` (loading ends the process unless FILE, a name in the version's folder, exists; it is made first),
`die-always` (loading always ends it), `gate:FILE` (as echo, loading waits until FILE is in the version's
folder), `fickle:FILE` (as echo, cannot be loaded while FILE is in the version's folder).

Parameter `do` of a call: `sleep:S`, `exit:CODE`, `segfault`, `raise`, `fatal`, `freeze` (SIGSTOP), `print:N`,
`poison` (kills the process itself), `fill:N` (N values come out).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plumbline.contracts.clock import MonotonicClock
from plumbline.contracts.inference import Tensors
from plumbline.contracts.models import ModelMetadata, TensorSpec
from plumbline.contracts.versions import VersionSpec
from plumbline.engine.lanes import LanePool
from plumbline.engine.scheduler import Scheduler
from plumbline.engine.session import Admitted
from plumbline.errors import BackendError, Recoverability, ValidationError
from plumbline.scheduling.policies.registry import open_policy

__all__ = ["FatalOnPurpose", "RefusedOnPurpose", "make_test_scheduler", "open_test_session"]

_GATE_S = 60.0


@dataclass(eq=False, kw_only=True)
class RefusedOnPurpose(ValidationError):
    """A test asked for a refusal."""

    code = "validation.testing_refused"
    owner = "testing"
    template = "refused on purpose: {what}"

    what: str


@dataclass(eq=False, kw_only=True)
class FatalOnPurpose(BackendError):
    """A test asked for the end of the worker."""

    code = "backend.testing_fatal"
    owner = "testing"
    template = "fatal on purpose: {what}"
    recoverability = Recoverability.FATAL

    what: str


class _Echo:
    """A session whose launches do what their calls ask for."""

    def __init__(self, spec: VersionSpec, ballast_bytes: int = 0) -> None:
        self._spec = spec
        self._ballast = np.ones(ballast_bytes, dtype=np.uint8)
        self._memory_bytes = ballast_bytes
        self._is_text = spec.entry == "text"

    @property
    def metadata(self) -> ModelMetadata:
        given, got = ("t", "u") if self._is_text else ("x", "y")
        datatype = "BYTES" if self._is_text else "FP32"
        pid = TensorSpec(name="pid", datatype="INT64", shape=(1,))
        return ModelMetadata(
            ref=self._spec.ref,
            kind=self._spec.kind,
            inputs=(TensorSpec(name=given, datatype=datatype, shape=(-1,)),),
            outputs=(TensorSpec(name=got, datatype=datatype, shape=(-1,)), pid),
            digest=self._spec.digest,
            memory_bytes=self._memory_bytes,
            memory={"ballast": self._memory_bytes},
        )

    def admit(self, inputs: Tensors, parameters: Mapping[str, Any], tenant: str) -> Admitted:
        name = "t" if self._is_text else "x"
        if set(inputs) != {name}:
            raise RefusedOnPurpose(what=f"inputs {sorted(inputs)}")
        return Admitted(inputs=(inputs[name], parameters.get("do", "")))

    def open_instance(self) -> _EchoInstance:
        return _EchoInstance("u" if self._is_text else "y")

    def example(self) -> Tensors:
        if self._is_text:
            return {"t": np.array([b"warm"], dtype=object)}
        return {"x": np.ones(4, dtype=np.float32)}

    def close(self) -> None:
        self._ballast = np.ones(0, dtype=np.uint8)


class _EchoInstance:
    segments = 1

    def __init__(self, output: str) -> None:
        self._output = output

    def run(
        self, batch: Sequence[Admitted], between: Callable[[int], bool]
    ) -> Sequence[Tensors | Exception] | None:
        return [self._answer(*admitted.inputs) for admitted in batch]

    def close(self) -> None:
        pass

    def _answer(self, value: np.ndarray, order: str) -> Tensors | Exception:
        action, _, argument = order.partition(":")
        if action == "raise":
            return RefusedOnPurpose(what=argument)
        if action == "fatal":
            return FatalOnPurpose(what=argument)
        if action == "fill":
            value = np.full(int(argument), 7.0, dtype=np.float32)
        elif action:
            _ORDERS[action](argument)
        return {self._output: value, "pid": np.array([os.getpid()])}


def _print(argument: str) -> None:
    sys.stdout.write("x" * int(argument))
    sys.stdout.flush()


def _signal(number: signal.Signals) -> Callable[[str], None]:
    """Sends it to the process, and waits until it has come: another thread may be the one that takes it."""

    def send(argument: str) -> None:
        os.kill(os.getpid(), number)
        time.sleep(30.0)

    return send


_ORDERS: dict[str, Callable[[str], object]] = {
    "sleep": lambda argument: time.sleep(float(argument)),
    "exit": lambda argument: os._exit(int(argument)),
    "segfault": _signal(signal.SIGSEGV),
    "poison": _signal(signal.SIGKILL),
    "freeze": _signal(signal.SIGSTOP),
    "print": _print,
}


def open_test_session(spec: VersionSpec) -> _Echo:
    """The session that a version's entry asks for. Raises RefusedOnPurpose."""
    action, _, argument = spec.entry.partition(":")
    if action == "refuse":
        raise RefusedOnPurpose(what="load")
    if action == "slow":
        time.sleep(float(argument))
    if action == "gate":
        _wait_for(spec.folder / argument)
    if action == "fickle" and (spec.folder / argument).exists():
        raise RefusedOnPurpose(what="load")
    if action == "die-always":
        _signal(signal.SIGSEGV)("")
    if action == "die":
        marker = spec.folder / argument
        if not marker.exists():
            marker.touch()
            _signal(signal.SIGKILL)("")
    return _Echo(spec, int(argument) if action == "ballast" else 0)


def _wait_for(file: Path) -> None:
    end_s = time.monotonic() + _GATE_S
    while not file.exists() and time.monotonic() < end_s:
        time.sleep(0.01)


def make_test_scheduler(**arguments: Any) -> Scheduler:
    """A scheduler as a worker wants it: one lane, first come, first served."""
    return Scheduler(
        policy=open_policy("fifo"),
        streams=LanePool(1),
        clock=MonotonicClock(),
        capacity=1024,
        progress=arguments.get("progress"),
        name=arguments.get("name", "test"),
        inlet=arguments.get("inlet"),
        budget_bytes=arguments.get("budget_bytes"),
    )
