"""Clients see no error while versions come and go, and workers follow the load (L4-64, L4-67, L4-68)."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from plumbline.contracts.clock import MonotonicClock
from plumbline.contracts.inference import InferenceCall, VersionRef
from plumbline.contracts.records import Routing
from plumbline.contracts.requests import RequestId
from plumbline.contracts.versions import VersionSpec
from plumbline.errors import PlumblineError
from plumbline.serving.models.autoscaler import Autoscaler
from plumbline.serving.models.directory import Directory
from plumbline.serving.models.rollout import RolloutPolicy, RolloutState
from plumbline.serving.models.scaling import ScalingPolicy
from plumbline.serving.models.service import RoutedInference
from plumbline.serving.repository.folder import FolderRepository
from plumbline.testing.fake_pool import FakePool, FakeRunFailed


async def no_compilation(spec: VersionSpec) -> None:
    await asyncio.sleep(0)


def drop(models: Path, version: str) -> None:
    place = models / "m" / version
    place.mkdir(parents=True)
    (place / "model.onnx").write_bytes(version.encode())


class Traffic:
    """Clients that never pause; each answer and each error is counted."""

    def __init__(self, service: RoutedInference) -> None:
        self.service, self.answers, self.errors = service, Counter[str](), Counter[str]()
        self._sent, self._stop = 0, False

    async def client(self) -> None:
        while not self._stop:
            self._sent += 1
            call = InferenceCall(id=RequestId(f"q{self._sent}"), model="m")
            try:
                result = await self.service.infer(call)
                self.answers[result.served_by.version] += 1
            except PlumblineError as error:
                self.errors[str(error)] += 1

    async def until(self, count: int, version: str) -> None:
        wanted = self.answers[version] + count
        while self.answers[version] < wanted:
            await asyncio.sleep(0.001)

    def stop(self) -> None:
        self._stop = True


async def served(models: Path, copies: Path, pool: FakePool, records: list[Routing]) -> tuple[Any, Any]:
    clock = MonotonicClock()
    directory = Directory(FolderRepository(models), pool, prepare=no_compilation, copies=copies, clock=clock)
    await directory.start()
    return directory, RoutedInference(directory, pool, clock, record=records.append)


def test_clients_see_no_error_while_versions_are_loaded_tried_rolled_back_and_unloaded(
    tmp_path: Path,
) -> None:
    async def work() -> None:
        models = tmp_path / "models"
        drop(models, "1")
        broken: set[str] = set()

        async def serve(ref: VersionRef, call: InferenceCall) -> None:
            await asyncio.sleep(0.0005)
            if ref.version in broken:
                raise FakeRunFailed(version=str(ref), reason="wanted")

        pool, records = FakePool(workers=2, serve=serve), list[Routing]()
        directory, service = await served(models, tmp_path / "copies", pool, records)
        traffic = Traffic(service)
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(traffic.client())
            await traffic.until(50, "1")
            drop(models, "2")
            await directory.load("m", "2", {"canary_share": 0.2})
            await traffic.until(20, "2")  # fewer than after which latencies, which are the machine's, count
            directory.canaries.end("m", promote=True)
            await traffic.until(50, "2")
            await directory.unload("m", "1")
            drop(models, "3")
            await directory.load("m", "3")
            await traffic.until(50, "3")
            await directory.pin("m", "2")
            await traffic.until(50, "2")
            await directory.retire("m", "3")
            await directory.unpin("m", "2")
            await traffic.until(50, "2")
            assert traffic.errors == {}
            drop(models, "4")
            broken.add("4")
            await directory.load("m", "4", {"canary_share": 0.3})
            directory.canaries.end("m", promote=False)
            policy = RolloutPolicy(share=0.3, min_requests=10, error_margin=0.05)
            directory.canaries.start("m", "4", policy)
            while directory.canaries.rollout("m").state is RolloutState.CANARY:
                await asyncio.sleep(0.001)
            failed = sum(traffic.errors.values())
            await traffic.until(100, "2")
            await directory.unload("m", "4")
            traffic.stop()
        # The canary itself failed; those 10 and the few that were on their way when the rule spoke.
        assert set(traffic.errors) == {"m@4: wanted"}
        assert 10 <= failed <= sum(traffic.errors.values()) <= 10 + 8
        answered = sum(traffic.answers.values()) + sum(traffic.errors.values())
        assert len([r for r in records if r.reason != "answered"]) == answered
        assert len([r for r in records if r.reason == "answered"]) == sum(traffic.errors.values())
        assert len({record.request for record in records}) == answered
        counted = [directory.statistics("m", version)[0].successes for version in ("2", "4")]
        assert counted == [traffic.answers["2"], traffic.answers["4"]]
        await directory.close()

    async def bounded() -> None:
        async with asyncio.timeout(120):
            await work()

    asyncio.run(bounded())


@pytest.mark.parametrize("by_age", [False, True])
def test_workers_grow_under_load_and_come_back_down(tmp_path: Path, by_age: bool) -> None:
    """L4-68."""

    async def work() -> None:
        models = tmp_path / "models"
        drop(models, "1")
        gate = asyncio.Event()

        async def serve(ref: VersionRef, call: InferenceCall) -> None:
            await gate.wait()

        pool = FakePool(serve=serve)
        _, service = await served(models, tmp_path / "copies", pool, [])
        policy = ScalingPolicy(
            min_workers=1,
            max_workers=3,
            high_per_worker=1000 if by_age else 4,
            max_age_ns=1_000_000 if by_age else 0,
            up_cooldown_ns=2_000_000,
            down_after_ns=20_000_000,
        )
        events: list[tuple[str, dict[str, Any]]] = []
        scaler = Autoscaler(
            pool,
            policy,
            MonotonicClock(),
            oldest_age_ns=service.oldest_age_ns,
            interval_s=0.002,
            announce=lambda kind, subject, **fields: events.append((kind, fields)),
        )
        loop = asyncio.create_task(scaler.run())
        calls = [
            asyncio.create_task(service.infer(InferenceCall(id=RequestId(str(n)), model="m")))
            for n in range(40)
        ]
        while len(pool.workers()) < 3:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        assert len(pool.workers()) == 3
        gate.set()
        await asyncio.gather(*calls)
        while len(pool.workers()) > 1:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        loop.cancel()
        numbers = [fields["after"] for kind, fields in events if kind == "workers.scaled"]
        assert numbers[-3:] == [3, 2, 1]
        assert min(numbers) == 1
        assert max(numbers) == 3

    async def bounded() -> None:
        async with asyncio.timeout(120):
            await work()

    asyncio.run(bounded())


def test_a_pool_that_cannot_grow_is_announced_and_asked_again() -> None:
    class Stuck(FakePool):
        async def scale(self, count: int) -> None:
            self.history.append("asked")
            raise FakeRunFailed(version="pool", reason="no memory for another worker")

    async def work() -> None:
        events: list[str] = []
        pool = Stuck()
        policy = ScalingPolicy(min_workers=2, max_workers=2)
        scaler = Autoscaler(
            pool, policy, MonotonicClock(), announce=lambda kind, subject, **fields: events.append(kind)
        )
        for _ in range(2):
            await scaler.step()
        assert pool.history == ["asked", "asked"]
        assert events == ["workers.scale_failed", "workers.scale_failed"]

    asyncio.run(work())
