"""A directory over a repository in memory and a pool without workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from plumbline.contracts.clock import FakeClock
from plumbline.contracts.inference import InferenceCall, VersionRef
from plumbline.contracts.models import VersionState
from plumbline.contracts.records import Routing
from plumbline.contracts.requests import RequestId
from plumbline.contracts.versions import VersionSpec
from plumbline.errors import PlumblineError
from plumbline.serving.models.directory import Directory
from plumbline.serving.models.kept_rollouts import KeptRollouts
from plumbline.serving.models.service import RoutedInference
from plumbline.serving.repository.memory import MemoryRepository
from plumbline.serving.repository.port import Repository
from plumbline.testing.fake_pool import FakePool


@dataclass
class Bench:
    """Everything that a test of the directory needs."""

    copies: Path
    repository: MemoryRepository = field(default_factory=lambda: MemoryRepository(allow_code=True))
    clock: FakeClock = field(default_factory=FakeClock)
    events: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    records: list[Routing] = field(default_factory=list)
    prepared: list[VersionRef] = field(default_factory=list)
    prepare_error: PlumblineError | None = None
    pool: FakePool = field(default_factory=FakePool)
    rollouts: KeptRollouts | None = None
    sent: int = 0

    def __post_init__(self) -> None:
        self.directory = Directory(
            self.repository,
            self.pool,
            prepare=self._prepare,
            copies=self.copies,
            clock=self.clock,
            announce=lambda kind, subject, **fields: self.events.append((kind, subject, fields)),
            rollouts=self.rollouts,
        )
        self.service = RoutedInference(self.directory, self.pool, self.clock, record=self.records.append)

    def made_again(
        self,
        prepare: Callable[[VersionSpec], Awaitable[None]] | None = None,
        repository: Repository | None = None,
        at_once: int = 1,
    ) -> Directory:
        """Another directory over the same pool."""
        return Directory(
            repository or self.repository,
            self.pool,
            prepare=prepare or self._prepare,
            copies=self.copies / "again",
            clock=self.clock,
            prepare_at_once=at_once,
        )

    def publish(self, model: str, *versions: str, files: dict[str, bytes] | None = None) -> None:
        for version in versions:
            content = files or {"model.onnx": f"{model}{version}".encode()}
            self.repository.publish(VersionRef(model=model, version=version), content, revision=f"r{version}")

    def state(self, model: str, version: str) -> VersionState:
        (status,) = [
            s for s in self.directory.statuses() if s.ref == VersionRef(model=model, version=version)
        ]
        return status.state

    def call(self, model: str = "m", version: str | None = None, **fields: Any) -> InferenceCall:
        self.sent += 1
        return InferenceCall(id=RequestId(f"q{self.sent}"), model=model, version=version, **fields)

    async def ask(self, model: str = "m", version: str | None = None) -> str:
        """The version that answered."""
        result = await self.service.infer(self.call(model, version))
        assert result.outputs["y"][0] == float(result.served_by.version)
        return result.served_by.version

    def kinds(self) -> list[str]:
        return [f"{kind} {subject}" for kind, subject, _ in self.events]

    async def _prepare(self, spec: VersionSpec) -> None:
        assert (spec.folder / spec.entry).exists()
        if self.prepare_error is not None:
            raise self.prepare_error
        self.prepared.append(spec.ref)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(copies=tmp_path / "copies")


@pytest.fixture
def make_bench(tmp_path: Path) -> Callable[..., Bench]:
    return lambda **fields: Bench(**{"copies": tmp_path / "copies", **fields})
