"""`GroupedPool`: the port `WorkerPool` on several pools of processes, so that classes and models part ways.

Each group is a `ProcessPool` of its own, with its own workers, journal and waiting calls: no call of a group
ever waits for the workers of another. The group of the models is always there; any other comes with its first
version and ends with its last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from plumbline.contracts.inference import InferenceCall, InferenceResult, VersionRef
from plumbline.contracts.models import ModelMetadata
from plumbline.contracts.requests import RequestId
from plumbline.contracts.versions import VersionSpec
from plumbline.engine.outcomes import DuplicateRequest, VersionLoadedTwice, VersionNotLoaded
from plumbline.serving.ports import WorkerStatus
from plumbline.serving.workers.failures import PoolStopped, WorkerUnknown
from plumbline.serving.workers.groups import MAX_GROUPS, MODELS, GroupsExhausted, group_of
from plumbline.serving.workers.pool import ProcessPool

__all__ = ["GroupedPool", "MakePool"]

MakePool = Callable[[str], ProcessPool]
"""Makes the pool of a group, not started."""

_GIVE_BACK_S = 10.0


@dataclass(slots=True, kw_only=True, eq=False)
class _Group:
    """One group. `users` counts versions that are loaded or being loaded; `changes` is held while its pool is
    started or stopped, so that two of one name never run side by side.
    """

    name: str
    pool: ProcessPool | None = None
    users: int = 0
    changes: asyncio.Lock = field(default_factory=asyncio.Lock)


class GroupedPool:
    """Owner of the groups and of which version is in which. Used on the event loop that calls `start`.

    Args:
        make_pool: called with the name of a group whenever that comes; the pool's places bear the name.
    """

    def __init__(self, make_pool: MakePool) -> None:
        self._make_pool = make_pool
        self._groups: dict[str, _Group] = {}
        self._where: dict[VersionRef, ProcessPool] = {}
        self._loading: set[VersionRef] = set()
        self._last_words: dict[str, str] = {}
        self._accepting = False
        self.models: ProcessPool = make_pool(MODELS)

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the workers of the models; returns when each is ready for `load`.

        Raises:
            PoolDegraded: none comes up.
        """
        await self.models.start()
        self._groups[MODELS] = _Group(name=MODELS, pool=self.models, users=1)
        self._accepting = True

    async def stop(self, *, drain: bool, timeout_s: float) -> None:
        """End every group: finish what was accepted (drain) or refuse it. Idempotent."""
        self._accepting = False
        groups = tuple(self._groups.values())
        await asyncio.gather(*(self._stop_group(group, drain, timeout_s) for group in groups))
        self._where.clear()

    async def _stop_group(self, group: _Group, drain: bool, timeout_s: float) -> None:
        async with group.changes:
            pool, group.pool = group.pool, None
            if pool is not None:
                await pool.stop(drain=drain, timeout_s=timeout_s)

    async def scale(self, count: int) -> None:
        """Bring the number of workers of the models to `count`; those that go are drained.

        Raises:
            ScaleRefused: less than one, or more than `MAX_WORKERS`.
        """
        await self.models.scale(count)

    # -- versions --------------------------------------------------------------------------------------------

    async def load(self, spec: VersionSpec) -> ModelMetadata:
        """Load in every worker of the version's group, now and later; a group without a worker gets one.

        Raises:
            PlumblineError: what the worker said; nothing stays loaded. GroupNameRefused, ClassAmongModels,
                GroupsExhausted, VersionLoadedTwice, LoadLostTwice, NoWorkerReady, PoolDegraded among them.
        """
        if not self._accepting:
            raise PoolStopped()
        if spec.ref in self._where or spec.ref in self._loading:
            raise VersionLoadedTwice(version=str(spec.ref))
        group = self._join(group_of(spec), spec.ref)
        loading = asyncio.create_task(self._load(group, spec))
        try:
            return await asyncio.shield(loading)
        except asyncio.CancelledError:
            loading.add_done_callback(lambda done: self._unload_unwanted(done, spec.ref))
            raise

    def _join(self, name: str, ref: VersionRef) -> _Group:
        """The group, with one more user."""
        group = self._groups.get(name)
        if group is None:
            if len(self._groups) >= MAX_GROUPS:
                raise GroupsExhausted(
                    version=str(ref), group=name, limit=MAX_GROUPS, groups=", ".join(self._groups)
                )
            group = self._groups[name] = _Group(name=name)
        group.users += 1
        self._loading.add(ref)
        return group

    async def _load(self, group: _Group, spec: VersionSpec) -> ModelMetadata:
        try:
            pool = await self._started(group)
            metadata = await pool.load(spec)
        except BaseException:
            await self._leave(group)
            raise
        finally:
            self._loading.discard(spec.ref)
        self._where[spec.ref] = pool
        return metadata

    async def _started(self, group: _Group) -> ProcessPool:
        async with group.changes:
            if not self._accepting:
                raise PoolStopped()
            if group.pool is None:
                pool = self._make_pool(group.name)
                await pool.start()
                group.pool = pool
            return group.pool

    async def _leave(self, group: _Group) -> None:
        """One user less; with the last one the workers of the group end, and give their memory back."""
        group.users -= 1
        async with group.changes:
            if group.users == 0 and self._groups.get(group.name) is group:
                pool, group.pool = group.pool, None
                if pool is not None:
                    self._keep_output(pool)
                    await pool.stop(drain=True, timeout_s=_GIVE_BACK_S)
                if group.users == 0:
                    del self._groups[group.name]

    def _unload_unwanted(self, done: asyncio.Task[ModelMetadata], ref: VersionRef) -> None:
        if not done.cancelled() and done.exception() is None and self._accepting:
            self._unwanted = asyncio.create_task(self.unload(ref))

    async def unload(self, ref: VersionRef) -> None:
        """Unload everywhere, and end the workers of a group whose last version this was. Accepted calls of it
        are finished first.

        Raises:
            VersionNotLoaded: it is not, or another unload is under way.
        """
        pool = self._pool_of(ref)
        await asyncio.shield(asyncio.create_task(self._unload(pool, ref)))

    async def _unload(self, pool: ProcessPool, ref: VersionRef) -> None:
        group = next(group for group in self._groups.values() if group.pool is pool)
        try:
            await pool.unload(ref)
        finally:
            if not pool.holds(ref) and self._where.pop(ref, None) is not None:
                await self._leave(group)

    def _pool_of(self, ref: VersionRef) -> ProcessPool:
        pool = self._where.get(ref)
        if pool is None:
            loaded = ", ".join(str(known) for known in self._where) or "none"
            raise VersionNotLoaded(version=str(ref), loaded=loaded)
        return pool

    # -- calls -----------------------------------------------------------------------------------------------

    async def infer(self, ref: VersionRef, call: InferenceCall, worker: str | None = None) -> InferenceResult:
        """Run a call on a loaded version, on a named worker of its group or the one with the least work.

        Raises:
            PlumblineError: as `ProcessPool.infer`.
        """
        if not self._accepting:
            raise PoolStopped()
        pool = self._pool_of(ref)
        if any(other is not pool and other.is_alive(call.id) for other in self._pools()):
            raise DuplicateRequest(request_id=call.id, state="alive")
        return await pool.infer(ref, call, worker)

    def cancel(self, request: RequestId) -> bool:
        """Ask for a call to be cancelled; False when it is not alive."""
        return any(pool.cancel(request) for pool in self._pools())

    def workers(self) -> Sequence[WorkerStatus]:
        """Every place, those of the models first."""
        return tuple(status for pool in self._pools() for status in pool.workers())

    def sole_worker(self, ref: VersionRef) -> str | None:
        """The only place of the version's group, where it takes calls of it."""
        pool = self._where.get(ref)
        return None if pool is None else pool.sole_worker(ref)

    def output(self, worker: str) -> str:
        """What the process in this place printed last, also after its group ended. May name paths.

        Raises:
            WorkerUnknown: there is no such place.
        """
        for pool in self._pools():
            if pool.has_place(worker):
                return pool.output(worker)
        if worker in self._last_words:
            return self._last_words[worker]
        known = ", ".join(status.name for status in self.workers())
        raise WorkerUnknown(worker=worker[:40], known=known)

    def _keep_output(self, pool: ProcessPool) -> None:
        """A class that could not be loaded said why, and its worker goes: kept of the last groups."""
        for status in pool.workers():
            self._last_words.pop(status.name, None)
            self._last_words[status.name] = pool.output(status.name)
        while len(self._last_words) > MAX_GROUPS:
            del self._last_words[next(iter(self._last_words))]

    def _pools(self) -> Iterator[ProcessPool]:
        return (group.pool for group in self._groups.values() if group.pool is not None)
