"""What became of a canary outlives the server, as pins and retirements do."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from plumbline.contracts.models import VersionState
from plumbline.serving.models.kept_rollouts import KeptRollouts, KeptRolloutsDamaged
from plumbline.serving.models.rollout import RolloutPolicy, RolloutState
from plumbline.testing.fake_pool import FakePool

Lives = Callable[[], Any]


@pytest.fixture
def lives(make_bench: Callable[..., Any], tmp_path: Path) -> Lives:
    """Each call is another life of the server: same repository, same state folder."""
    first = make_bench()
    first.publish("m", "1", "2")

    numbers = itertools.count()

    def another() -> Any:
        kept = KeptRollouts(tmp_path / "rollouts.json")
        copies = tmp_path / f"copies-{next(numbers)}"
        return make_bench(repository=first.repository, rollouts=kept, pool=FakePool(), copies=copies)

    return another


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 30))


async def tried(bench: Any, then: Callable[[Any], Awaitable[None] | None]) -> None:
    """Version 2 is a canary beside 1, and `then` happens."""
    await bench.directory.load("m", "1")
    await bench.directory.load("m", "2")
    bench.directory.canaries.start("m", "2", RolloutPolicy(share=0.25, min_requests=5))
    done = then(bench)
    if done is not None:
        await done


def roll_back(bench: Any) -> None:
    bench.directory.canaries.end("m", promote=False, reason="errors")


def test_a_canary_that_was_rolled_back_gets_nothing_after_a_restart_and_shows_why(lives: Lives) -> None:
    async def work() -> None:
        await tried(lives(), roll_back)
        bench = lives()
        await bench.directory.start()
        assert bench.state("m", "1") is VersionState.READY, "the newest that was not rolled back"
        assert bench.state("m", "2") is VersionState.FOUND
        rollout = bench.directory.canaries.rollout("m")
        assert (rollout.state, rollout.reason) == (RolloutState.ROLLED_BACK, "errors")
        assert (rollout.canary.version, rollout.base.version, rollout.policy.share) == ("2", "1", 0.25)
        await bench.directory.load("m", "2")
        assert {await bench.ask() for _ in range(20)} == {"1"}
        assert await bench.ask(version="2") == "2"

    run(work())


def test_a_canary_that_ran_when_the_server_ended_does_not_get_everything_at_the_next_start(
    lives: Lives,
) -> None:
    async def work() -> None:
        await tried(lives(), lambda bench: None)
        bench = lives()
        await bench.directory.start()
        rollout = bench.directory.canaries.rollout("m")
        assert rollout.state is RolloutState.ROLLED_BACK
        assert "the server ended" in rollout.reason
        assert {await bench.ask() for _ in range(20)} == {"1"}

    run(work())


def test_a_promoted_canary_keeps_everything_although_a_newer_version_is_there(lives: Lives) -> None:
    async def work() -> None:
        bench = lives()
        bench.publish("m", "3")
        for version in ("1", "2", "3"):
            await bench.directory.load("m", version)
        bench.directory.canaries.start("m", "2", RolloutPolicy(share=0.5, min_requests=5))
        bench.directory.canaries.end("m", promote=True)
        assert await bench.ask() == "2"
        later = lives()
        await later.directory.start()
        assert await later.ask() == "2"
        assert later.directory.canaries.rollout("m").state is RolloutState.PROMOTED

    run(work())


@pytest.mark.parametrize("how", ["made a canary again", "unloaded"])
def test_what_ends_a_roll_back_ends_it_for_the_next_run_too(lives: Lives, how: str) -> None:
    async def work() -> None:
        bench = lives()
        await tried(bench, roll_back)
        if how == "unloaded":
            await bench.directory.unload("m", "2")
        else:
            bench.directory.canaries.start("m", "2", RolloutPolicy(share=0.5, min_requests=5))
            bench.directory.canaries.end("m", promote=True)
        later = lives()
        await later.directory.start()
        assert await later.ask() == "2"

    run(work())


def test_other_content_under_the_name_of_a_version_that_was_rolled_back_is_another_version(
    lives: Lives, make_bench: Callable[..., Any], tmp_path: Path
) -> None:
    async def work() -> None:
        await tried(lives(), roll_back)
        kept = KeptRollouts(tmp_path / "rollouts.json")
        repaired = make_bench(rollouts=kept, copies=tmp_path / "other")
        repaired.publish("m", "1")
        repaired.publish("m", "2", files={"model.onnx": b"repaired"})
        await repaired.directory.start()
        assert await repaired.ask() == "2"
        assert repaired.directory.canaries.rollout("m") is None

    run(work())


def test_a_change_that_cannot_be_written_is_told_and_changes_nothing_else(
    lives: Lives, tmp_path: Path
) -> None:
    async def work() -> None:
        bench = lives()
        (tmp_path / "rollouts.json.new").mkdir()
        await tried(bench, roll_back)
        assert bench.rollouts.trouble() == "Is a directory"
        assert {await bench.ask() for _ in range(20)} == {"1"}, "the roll-back itself counts"
        (tmp_path / "rollouts.json.new").rmdir()
        bench.directory.canaries.start("m", "2", RolloutPolicy(share=0.5, min_requests=5))
        assert bench.rollouts.trouble() == ""

    run(work())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"schema":2,"models":{}}',
        b'{"schema":1,"models":{"m":{"held":["2"]}}}',
        b"\xff" * 9,
    ],
)
def test_a_file_that_no_server_wrote_is_refused_without_its_path(tmp_path: Path, content: bytes) -> None:
    """Going on without it would give traffic to what was rolled back."""
    path = tmp_path / "rollouts.json"
    path.write_bytes(content)
    with pytest.raises(KeptRolloutsDamaged) as found:
        KeptRollouts(path)
    assert str(tmp_path) not in found.value.message
    assert path.read_bytes() == content
