"""Sessions without models: fakes of each port of the engine, for tests of whatever stands on it.

EchoSession     gives its input back; batchable; the null model
SlowSession     several segments that take as long as told, or wait until told
FailingSession  raises what it is told
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.contracts.inference import InferenceCall, Tensors, VersionRef
from plumbline.contracts.models import ModelMetadata, TensorSpec, VersionKind
from plumbline.contracts.requests import RequestId
from plumbline.engine.outcomes import Completion
from plumbline.engine.session import Admitted, Instance
from plumbline.errors import ValidationError
from plumbline.scheduling.request import BatchTerms

__all__ = [
    "HANG_S",
    "EchoRefused",
    "EchoSession",
    "FailingSession",
    "Outcomes",
    "SlowSession",
    "echo_call",
    "echo_metadata",
]

MAX_ROWS = 64
HANG_S = 60.0
"""How long a test waits for what must happen: for a machine with few cores and many tests, not for speed."""


@dataclass(eq=False, kw_only=True)
class EchoRefused(ValidationError):
    """The input of an echo is no float32 array `x` of shape [n, 4], n at most 64."""

    code = "validation.testing_echo"
    owner = "testing"
    template = "input x: {reason}"

    reason: str


def echo_metadata(
    ref: VersionRef, *, max_rows: int = MAX_ROWS, memory_bytes: int = 1024,
    kind: VersionKind = VersionKind.MODEL,
) -> ModelMetadata:  # fmt: skip
    """Interface of an echo: `x` FP32 [n, 4] in, `y` the same out."""
    bounds = (MAX_ROWS, 4)
    return ModelMetadata(
        ref=ref, kind=kind,
        inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1, 4), bounds=bounds),),
        outputs=(TensorSpec(name="y", datatype="FP32", shape=(-1, 4), bounds=bounds),),
        digest="0" * 64, max_rows=max_rows,
        unbatched_because="" if max_rows else "asked for in the test",
        memory_bytes=memory_bytes, memory={"arenas": memory_bytes},
    )  # fmt: skip


def echo_call(
    request: str, ref: VersionRef, *, rows: int = 1, value: float = 1.0, **more: Any
) -> InferenceCall:
    """A call of an echo. `more`: other fields of `InferenceCall`."""
    x = np.full((rows, 4), value, np.float32)
    return InferenceCall(id=RequestId(request), model=ref.model, version=ref.version, inputs={"x": x}, **more)


class EchoSession:
    """Gives `x` back as `y`. Counts what happens to it.

    Args:
        ref: what it says it is.
        max_rows: of one launch; 0 for no batching.
        max_delay_ns: how long a launch may wait for company.
        memory_bytes: planned.
        segment_ns: calibrated bound of each segment; empty for none.
        kind: what it says it is made of; `PYTHON` gets a lane of its own.
    """

    def __init__(
        self, ref: VersionRef, *, max_rows: int = MAX_ROWS, max_delay_ns: int = 0,
        memory_bytes: int = 1024, segment_ns: Sequence[int] = (), kind: VersionKind = VersionKind.MODEL,
    ) -> None:  # fmt: skip
        self.metadata = echo_metadata(ref, max_rows=max_rows, memory_bytes=memory_bytes, kind=kind)
        self._max_delay_ns, self._segment_ns = max_delay_ns, tuple(segment_ns)
        self.opened = self.closed_instances = self.closed = 0
        self.launches: list[int] = []

    def admit(self, inputs: Tensors, parameters: Mapping[str, Any], tenant: str) -> Admitted:
        """Check `x`.

        Raises:
            EchoRefused: it is not what an echo takes.
        """
        x = inputs.get("x")
        if not isinstance(x, np.ndarray) or x.dtype != np.float32 or x.ndim != 2 or x.shape[1] != 4:
            raise EchoRefused(reason="expected a float32 array of shape [n, 4]")
        if len(x) > MAX_ROWS:
            raise EchoRefused(reason=f"{len(x)} rows, at most {MAX_ROWS}")
        batch, rows = None, self.metadata.max_rows
        if rows and len(x) <= rows:
            batch = BatchTerms(
                key=str(self.metadata.ref), units=len(x), max_units=rows, max_requests=rows,
                max_delay_ns=self._max_delay_ns,
            )  # fmt: skip
        return Admitted(
            inputs=x, batch=batch, cost_bound_ns=sum(self._segment_ns), segment_bounds_ns=self._segment_ns
        )

    def open_instance(self) -> Instance:
        """Another one."""
        self.opened += 1
        return EchoInstance(self)

    def example(self) -> Tensors:
        """Ones."""
        return {"x": np.ones((1, 4), np.float32)}

    def close(self) -> None:
        """Count."""
        self.closed += 1

    def segment(self, index: int) -> None:
        """What happens in a segment: nothing."""

    @property
    def segments(self) -> int:
        """One, or as many as have bounds."""
        return max(len(self._segment_ns), 1)


class EchoInstance:
    """Runs the segments of its session, then copies."""

    def __init__(self, session: EchoSession) -> None:
        self._session = session
        self.segments = session.segments
        self.running = threading.Lock()

    def run(
        self, batch: Sequence[Admitted], between: Callable[[int], bool]
    ) -> Sequence[Tensors | Exception] | None:
        """Copies of the inputs.

        Raises:
            RuntimeError: two launches at once, which the engine must not do.
        """
        if not self.running.acquire(blocking=False):
            raise RuntimeError("two launches on one instance")
        try:
            self._session.launches.append(len(batch))
            for index in range(self.segments):
                if index and not between(index):
                    return None
                self._session.segment(index)
            return [{"y": request.inputs.copy()} for request in batch]
        finally:
            self.running.release()

    def close(self) -> None:
        """Count."""
        self._session.closed_instances += 1


class SlowSession(EchoSession):
    """An echo whose segments take time, or stand still until the gate is opened.

    Args:
        ref: what it says it is.
        segments: how many.
        segment_s: how long each sleeps.
        gated: segments wait for `gate` first; `entered` is set when the first one stands there.
        more: as for `EchoSession`.
    """

    def __init__(
        self, ref: VersionRef, *, segments: int = 1, segment_s: float = 0.0, gated: bool = False, **more: Any
    ) -> None:
        more.setdefault("segment_ns", (round(segment_s * 1e9),) * segments)
        super().__init__(ref, **more)
        self._segment_s, self._gated, self._count = segment_s, gated, segments
        self.gate, self.entered = threading.Event(), threading.Event()
        self.order: list[int] = []

    @property
    def segments(self) -> int:
        """As told."""
        return self._count

    def segment(self, index: int) -> None:
        """Stand, or sleep.

        Raises:
            TimeoutError: nobody opened the gate for two minutes.
        """
        self.order.append(index)
        if self._gated:
            self.entered.set()
            if not self.gate.wait(2 * HANG_S):
                raise TimeoutError("nobody opened the gate")
        if self._segment_s:
            time.sleep(self._segment_s)


class FailingSession(EchoSession):
    """An echo that raises instead of running.

    Args:
        ref: what it says it is.
        error: makes what is raised.
        each: give the error to each request as its own, instead of failing the launch.
        more: as for `EchoSession`.
    """

    def __init__(
        self, ref: VersionRef, error: Callable[[], Exception], *, each: bool = False, **more: Any
    ) -> None:
        super().__init__(ref, **more)
        self._error, self._each = error, each

    def open_instance(self) -> Instance:
        """One that fails."""
        self.opened += 1
        return FailingInstance(self, self._error, self._each)


class FailingInstance(EchoInstance):
    """Fails."""

    def __init__(self, session: EchoSession, error: Callable[[], Exception], each: bool) -> None:
        super().__init__(session)
        self._error, self._each = error, each

    def run(
        self, batch: Sequence[Admitted], between: Callable[[int], bool]
    ) -> Sequence[Tensors | Exception] | None:
        """Raise, or give every request its error."""
        if self._each:
            return [self._error() for _ in batch]
        raise self._error()


class Outcomes:
    """A completion callback that keeps what it is told, and can be waited for. Thread-safe."""

    def __init__(self) -> None:
        self.all: list[Completion] = []
        self.threads: set[str] = set()
        self._told = threading.Condition()

    def __call__(self, completion: Completion) -> None:
        """Take one."""
        with self._told:
            self.all.append(completion)
            self.threads.add(threading.current_thread().name)
            self._told.notify_all()

    def wait(self, count: int = 1, timeout_s: float = HANG_S) -> list[Completion]:
        """The outcomes, once there are `count`.

        Raises:
            TimeoutError: there are fewer after the time.
        """
        with self._told:
            if not self._told.wait_for(lambda: len(self.all) >= count, timeout_s):
                raise TimeoutError(f"{len(self.all)} of {count} outcomes after {timeout_s} s")
            return list(self.all)
