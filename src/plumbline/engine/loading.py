"""Loader: a session and its instances, by stage, from open to closed.

A version of one stage and a pipeline look the same from here: a pipeline is a version of several stages.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from plumbline.contracts.inference import Tensors, VersionRef
from plumbline.contracts.models import VersionKind
from plumbline.engine.result import ResultDecoder
from plumbline.engine.session import Admitted, Instance, RunWatch, Session, SessionStage
from plumbline.errors import ResourceError

__all__ = [
    "LanesExhausted",
    "LoadedStage",
    "LoadedVersion",
    "loaded_names",
    "open_version",
    "stage_sessions",
]


@dataclass(eq=False, kw_only=True)
class LanesExhausted(ResourceError):
    """As many stages as may have a lane of their own have one."""

    code = "resource.engine_lanes"
    owner = "engine"
    template = "version {version!r} needs a lane of its own, and none is left"

    version: str


def stage_sessions(session: Session) -> tuple[Session, ...]:
    """The sessions that are scheduled by themselves: the stages of a pipeline, or the session alone."""
    stages = getattr(session, "stages", None)
    return tuple(stages) if stages else (session,)


class LoadedStage:
    """One graph of the run queue and its instances.

    The free instances are owned by the orchestration loop; everything else is immutable once it is open.

    Attributes:
        chain: every stage of its version in order, itself among them.
    """

    def __init__(
        self, graph: str, session: Session, stream: int | None, *, own_lane: bool, is_part: bool
    ) -> None:
        self.graph, self.session, self.stream = graph, session, stream
        self.own_lane, self.is_part = own_lane, is_part
        self.watch: RunWatch | None = getattr(session, "run_watch", None)
        self.decoder = ResultDecoder(session.metadata)
        self.chain: tuple[LoadedStage, ...] = (self,)
        self.instances: list[Instance] = []
        self.free: deque[Instance] = deque()
        self._places: dict[int, str] = {}

    @property
    def version(self) -> str:
        """Key of the version that it belongs to."""
        return self.graph.rpartition("/")[0] if self.is_part else self.graph

    def open(self, count: int) -> None:
        """Open `count` instances."""
        for _ in range(count):
            instance = self.session.open_instance()
            self.instances.append(instance)
            self.free.append(instance)
            self._places[id(instance)] = f"{self.graph}#{len(self.instances) - 1}"

    def place_of(self, instance: Instance) -> str:
        """Graph and number of an open instance."""
        return self._places[id(instance)]

    def close(self) -> bool:
        """Close every instance that is not in a launch; whether that was all."""
        closing = tuple(self.free)
        self.free.clear()
        for instance in closing:
            self.instances.remove(instance)
            instance.close()
        return not self.instances


class LoadedVersion:
    """A loaded version. `passes_on`: it is a pipeline, also one of a single stage.

    `open` and `accepted` change under the lock of the intake; `answered` is written by the orchestration loop
    alone.
    """

    def __init__(self, ref: VersionRef, session: Session, stages: tuple[LoadedStage, ...]) -> None:
        self.ref, self.session, self.stages = ref, session, stages
        self.decoder = ResultDecoder(session.metadata)
        self.passes_on = hasattr(session, "forward")
        self.open = True
        self.accepted = 0
        self.answered = 0
        self.drained = threading.Event()

    @property
    def alive(self) -> int:
        """Requests that were accepted and not answered."""
        return self.accepted - self.answered

    def forward(self, stage: int, request: Admitted, outputs: Tensors) -> Tensors:
        """What a pipeline passes on from one stage to the next."""
        session: SessionStage = self.session  # type: ignore[assignment]
        return session.forward(stage, request, outputs)

    def close(self) -> None:
        """Close the instances of every stage, then the session.

        An instance whose launch never came back (the engine failed) is left alone, and the session with it.
        """
        closed = [stage.close() for stage in self.stages]
        if all(closed):
            self.session.close()


def open_version(
    ref: VersionRef, session: Session, *, instances: int, stream: int | None, own_streams: Iterator[int]
) -> LoadedVersion:
    """Open the instances of every stage.

    Args:
        ref: of the version.
        session: what runs.
        instances: of the version; a stage of a pipeline whose session has `instances` gets as many as that.
        stream: that launches are bound to, or None for any.
        own_streams: free numbers of streams. Each stage of the kind `python` takes one, with a lane of its
            own for each instance (`LoadedStage.own_lane`), whatever `stream` is.

    Raises:
        LanesExhausted: there are not enough numbers.
        PlumblineError: whatever an instance raised; those that were opened are closed again, the session is
            not.
    """
    sessions = stage_sessions(session)
    stages = []
    for index, found in enumerate(sessions):
        own = found.metadata.kind is VersionKind.PYTHON
        number = next(own_streams, None) if own else stream
        if own and number is None:
            raise LanesExhausted(version=str(ref))
        graph = _graph(ref, index, len(sessions))
        stages.append(LoadedStage(graph, found, number, own_lane=own, is_part=len(sessions) > 1))
    with ExitStack() as undo:
        for stage in stages:
            stage.chain = tuple(stages)
            undo.callback(stage.close)
            stage.open((getattr(stage.session, "instances", None) if stage.is_part else None) or instances)
        undo.pop_all()
    return LoadedVersion(ref, session, tuple(stages))


def loaded_names(versions: Mapping[VersionRef, LoadedVersion]) -> str:
    """Keys of loaded versions for a message."""
    return ", ".join(map(str, versions)) or "none"


def _graph(ref: VersionRef, stage: int, stages: int) -> str:
    return str(ref) if stages == 1 else f"{ref}/{stage}"
