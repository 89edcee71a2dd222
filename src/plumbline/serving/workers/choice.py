"""Which worker takes a call: the named one, or the one with the least accepted work, while it has credit."""

from __future__ import annotations

from collections.abc import Mapping

from plumbline.errors import PlumblineError
from plumbline.serving.workers.failures import (
    IntakeFull,
    NoWorkerReady,
    PoolDegraded,
    VersionNotBack,
    WorkerUnknown,
)
from plumbline.serving.workers.journal import MAX_SEEN, LoadedVersion
from plumbline.serving.workers.link import WorkerLink
from plumbline.serving.workers.options import PoolOptions
from plumbline.serving.workers.place import WorkerPlace

__all__ = ["WorkerChoice"]


class WorkerChoice:
    """Reads the places; changes nothing but the room that it hands out.

    Args:
        places: of the pool, by name, live.
        options: limits.
    """

    def __init__(self, places: Mapping[str, WorkerPlace], options: PoolOptions) -> None:
        self._places, self._options = places, options

    def ready(self) -> list[WorkerPlace]:
        """Places that take calls."""
        return [place for place in self._places.values() if place.is_ready]

    def place_of(self, link: WorkerLink) -> WorkerPlace | None:
        """The place whose worker this is now; None for one of the past."""
        place = self._places.get(link.name)
        return place if place is not None and place.link is link else None

    def link_of(self, worker: str) -> WorkerLink | None:
        """The worker in a place."""
        place = self._places.get(worker)
        return None if place is None else place.link

    def holding(self, version: LoadedVersion) -> list[WorkerPlace]:
        """Places that take calls of this version."""
        return [place for place in self._places.values() if place.takes(version)]

    def choose(self, version: LoadedVersion, worker: str | None) -> tuple[WorkerPlace, WorkerLink]:
        """A worker for a new call of this version.

        Raises:
            WorkerUnknown, NoWorkerReady, VersionNotBack, PoolDegraded, IntakeFull: there is none for it.
        """
        best: WorkerPlace | None = None
        for place in self._places.values() if worker is None else [self.named(worker)]:
            fits = place.takes(version) and not place.leaving
            if fits and (best is None or len(place.sent) < len(best.sent)):
                best = place
        if best is None or best.link is None:
            raise self.none_ready(worker, version)
        limit = self._options.calls_per_worker
        if len(best.sent) >= limit:
            raise self._full("calls of the worker", limit, limit)
        return best, best.link

    def choose_for_suspect(self, version: LoadedVersion) -> tuple[WorkerPlace, WorkerLink] | None:
        """A worker for a call whose last one died."""
        best: WorkerPlace | None = None
        for place in self._places.values():
            fits = not self.unfit_for_suspect(place, version)
            if fits and (best is None or len(place.sent) < len(best.sent)):
                best = place
        return None if best is None or best.link is None else (best, best.link)

    def unfit_for_suspect(self, place: WorkerPlace, version: LoadedVersion) -> str:
        """Why a place does not take such a call now; empty when it does."""
        if not place.is_ready:
            return f"it is {place.state.value}"
        if place.leaving:
            return "it is leaving"
        if not place.takes(version):
            return "the version is not loaded in it"
        if place.suspects >= self._options.suspects_at_once:
            return "it has a call already whose worker died"
        return ""

    def unfit(self, version: LoadedVersion) -> tuple[tuple[str, str], ...]:
        """Every place that takes no call of this version whose worker died, and why."""
        pairs = ((p.name, self.unfit_for_suspect(p, version)) for p in self._places.values())
        return tuple((name, reason) for name, reason in pairs if reason)

    def named(self, worker: str) -> WorkerPlace:
        """The place of this name.

        Raises:
            WorkerUnknown: there is none.
        """
        place = self._places.get(worker)
        if place is None:
            raise WorkerUnknown(worker=worker[:40], known=", ".join(self._places))
        return place

    def take_slot(self, link: WorkerLink, size: int) -> tuple[int, int]:
        """Room for the inputs of a call.

        Raises:
            IntakeFull: there is none now.
        """
        slot = link.slots.take(size)
        if slot is None:
            used = link.slots.used_bytes + size
            raise self._full("bytes for inputs of the worker", used, self._options.input_bytes)
        return slot

    def verify_own_file(self, place: WorkerPlace) -> None:
        """The worker may have one more call with a file of its own.

        Raises:
            IntakeFull: not now.
        """
        if place.own_files >= self._options.own_files:
            raise self._full("large calls of the worker", place.own_files, self._options.own_files)

    @property
    def is_degraded(self) -> bool:
        """No worker is ready, and one dies faster than it becomes ready."""
        return not self.ready() and any(place.is_degraded for place in self._places.values())

    def none_ready(self, worker: str | None = None, version: LoadedVersion | None = None) -> PlumblineError:
        """Why no worker takes a call now, or none of this version."""
        places = list(self._places.values()) if worker is None else [self.named(worker)]
        degraded = [place for place in places if place.is_degraded]
        if degraded and not any(place.is_ready for place in places):
            return PoolDegraded(
                deaths=max(place.deaths for place in degraded),
                reason=degraded[-1].last_reason,
                retry_after_s=self._options.max_backoff_s,
            )
        if version is not None and version.load_faults >= MAX_SEEN:
            return self.not_back(version)
        without = "" if version is None else f", {version.spec.ref} not loaded in it"
        states = ", ".join(
            f"{place.name} {place.state.value}{without if place.is_ready else ''}" for place in places
        )
        states = states or "there are no workers"
        return NoWorkerReady(states=states, retry_after_s=self._options.retry_after_s)

    def not_back(self, version: LoadedVersion) -> VersionNotBack:
        """Why a version that replacements cannot load takes no call."""
        return VersionNotBack(
            version=str(version.spec.ref),
            tries=version.load_faults,
            reason=version.load_reason,
            retry_after_s=self._options.max_backoff_s,
        )

    def _full(self, what: str, used: int, limit: int) -> IntakeFull:
        return IntakeFull(what=what, used=used, limit=limit, retry_after_s=self._options.retry_after_s)
