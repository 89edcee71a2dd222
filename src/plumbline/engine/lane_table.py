"""`LaneTable`: the lanes of a running engine: those of the pool, and those that stages have to themselves."""

from __future__ import annotations

from collections.abc import Iterator

from plumbline.engine.lanes import Lane, LaneControl, LanePool
from plumbline.engine.loading import LoadedStage, LoadedVersion

__all__ = ["LaneTable"]

CLOSING_S = 0.1
"""How long an idle lane may take to end."""


class LaneTable:
    """Owned by the orchestration loop, which opens and closes it.

    Attributes:
        all: every lane: those of the pool by their number, then the others in the order of loading.
    """

    def __init__(self, pool: LanePool, control: LaneControl, name: str) -> None:
        self._pool, self._control, self._name = pool, control, name
        self._own: dict[LoadedStage, list[Lane]] = {}
        self._shared: list[Lane] = []
        self.all: tuple[Lane, ...] = ()

    def open(self) -> None:
        """Open the lanes of the pool."""
        self._shared = self._pool.open(self._control, self._name)
        self._list()

    def add(self, version: LoadedVersion) -> None:
        """Open a lane for each instance of each stage that has lanes of its own."""
        for stage in version.stages:
            if stage.own_lane and stage.stream is not None:
                name, number = f"{self._name} {stage.graph}", stage.stream
                self._own[stage] = [
                    self._pool.open_thread(self._control, number, name) for _ in stage.instances
                ]
        self._list()

    def remove(self, version: LoadedVersion) -> None:
        """Close them; nothing runs on them any more."""
        for stage in version.stages:
            for lane in self._own.pop(stage, ()):
                lane.close(CLOSING_S)
        self._list()

    def idle(self) -> Iterator[Lane]:
        """Lanes without a launch, in order; asked anew for each."""
        for lane in self.all:
            if not lane.busy:
                yield lane

    def call_attention(self) -> None:
        """Something happened that a launch between two segments should know of."""
        for lane in self.all:
            lane.attention = True

    def close(self, *, patient: bool) -> None:
        """Close every lane; without patience those that are in a launch are left to themselves."""
        for lane in self.all:
            lane.close(CLOSING_S if patient else 0.0)

    def _list(self) -> None:
        self.all = (*self._shared, *(lane for lanes in self._own.values() for lane in lanes))
