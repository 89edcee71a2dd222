"""`Session`: a loaded version that the engine can schedule. One port for models, text, pipelines and classes.

The engine asks a session three things. *At submission* (on the caller's thread): `admit` checks the inputs
and says what a request costs and with whom it may share a launch. *At dispatch*: `open_instance` made the
instances, one for each launch that may go on at once. *At launch* (on a stream's thread): `Instance.run`
takes the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from plumbline.contracts.inference import Tensors
from plumbline.contracts.models import ModelMetadata
from plumbline.scheduling.request import BatchTerms

__all__ = ["Admitted", "Instance", "RunBoard", "RunWatch", "Session", "SessionStage", "watch_runs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """Inputs that fit, and how the request may be scheduled.

    Attributes:
        inputs: as `Instance.run` wants them; may differ from what was given (texts became token ids).
        batch: with whom it may share a launch, or None.
        cost_bound_ns: calibrated bound of a launch of this request alone, 0 where there is none.
        segment_bounds_ns: the same for each segment.
        stage: of a pipeline: which stage comes first.
        stage_bounds_ns: of a pipeline: calibrated bound of each stage as one piece; empty for none.
    """

    inputs: Any
    batch: BatchTerms | None = None
    cost_bound_ns: int = 0
    segment_bounds_ns: tuple[int, ...] = ()
    stage: int = 0
    stage_bounds_ns: tuple[int, ...] = ()


class Instance(Protocol):
    """One launch at a time: an execution context, or one object of a class."""

    @property
    def segments(self) -> int:
        """How many pieces `run` falls into; between two of them `between` is called."""

    def run(
        self, batch: Sequence[Admitted], between: Callable[[int], bool]
    ) -> Sequence[Tensors | Exception] | None:
        """Run a batch, and give every request its own result.

        Args:
            batch: requests of one batch key, within its bounds.
            between: called between segments with the number of the next; False ends the launch early (all its
                requests were cancelled).

        Returns:
            For each request its outputs, in arrays that no later run changes, or the error that is its own;
            None when `between` ended it.

        Raises:
            PlumblineError: the whole launch failed, and with it every request of the batch.
        """

    def close(self) -> None:
        """Give everything back."""


class Session(Protocol):
    """A loaded version."""

    @property
    def metadata(self) -> ModelMetadata:
        """Interface, digest and memory."""

    def admit(self, inputs: Tensors, parameters: Mapping[str, Any], tenant: str) -> Admitted:
        """Check inputs without running anything. Called on the submitting thread; thread-safe.

        Raises:
            PlumblineError: naming the input and what is wrong with it.
        """

    def open_instance(self) -> Instance:
        """Something to run on. Opened when the session is loaded, as many as its instance count."""

    def example(self) -> Tensors:
        """Inputs for the warm-up inference and for calibration, deterministic, at the bounds."""

    def close(self) -> None:
        """Give everything back; instances were closed before."""


class SessionStage(Protocol):
    """A session of several stages: each stage is scheduled by itself, so that two requests overlap."""

    @property
    def stages(self) -> Sequence[Session]:
        """In order."""

    def forward(self, stage: int, request: Admitted, outputs: Tensors) -> Tensors:
        """Inputs of stage `stage + 1`, or the result after the last, from what the stage gave."""


class RunBoard(Protocol):
    """Where the runs of now are shown to somebody whom they cannot hold up, and who holds them to a limit."""

    def begin(self, requests: Sequence[str], limit_ns: int) -> int:
        """A run of these requests begins on the calling thread; 0: the limit of whoever watches holds.

        Returns:
            What `end` wants.
        """

    def end(self, seat: int) -> None:
        """The run is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWatch:
    """Of a session whose runs are shown: it has one as its attribute `run_watch`."""

    board: RunBoard
    limit_ns: int = 0


def watch_runs(session: Session, board: RunBoard) -> None:
    """Show the runs of a session that is not loaded yet, and of those of its stages that want it."""
    for stage in getattr(session, "stages", None) or (session,):
        show = getattr(stage, "watch_runs", None)
        if show is not None:
            show(board)
