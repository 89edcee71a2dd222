"""From a call to its one outcome, with a record of every choice (L4-67)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.records import Routing, decode_record, encode_record
from plumbline.contracts.requests import RequestId
from plumbline.scheduling.refusals import DuplicateRequest
from plumbline.serving.models.refusals import CanaryRefused, NoCanaryRuns, NoWorkerReady, VersionNotReady
from plumbline.serving.models.rollout import RolloutPolicy, RolloutState
from plumbline.serving.models.routing import request_draw
from plumbline.serving.ports import WorkerState
from plumbline.serving.repository.refusals import VersionUnknown
from plumbline.testing.fake_pool import FakePool, FakeRunFailed


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await work

    asyncio.run(bounded())


def test_a_call_without_a_choice_is_recorded_too(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1")
        await bench.directory.load("m")
        await bench.ask()
        (record,) = bench.records
        assert (record.request, record.model, record.candidates, record.chosen, record.reason) == (
            "q1",
            "m",
            ("m@1/w0",),
            "m@1/w0",
            "only_version",
        )

    run(work())


def test_a_choice_is_recorded_with_every_candidate_and_why_it_lost(make_bench: Any) -> None:
    async def work() -> None:
        bench = make_bench(pool=FakePool(workers=3))
        bench.publish("m", "1", "2", "3")
        for version in ("1", "2"):
            await bench.directory.load("m", version)
        bench.pool.states["w1"] = WorkerState.STALLED
        await bench.ask()
        record: Routing = bench.records[-1]
        assert (record.chosen, record.reason) == ("m@2/w0", "newest_ready")
        assert dict(record.rejected) == {
            "m@1": "a newer version is ready",
            "m@2/w1": "it is stalled",
            "m@2/w2": "busier: 0 accepted",
        }
        assert set(record.candidates) == {*dict(record.rejected), record.chosen}
        assert decode_record(encode_record(record)) == record

    run(work())


def test_versions_that_only_lie_in_the_repository_cost_a_request_nothing(bench: Any) -> None:
    """L4-67: the record names who was weighed, not hundreds that nobody loaded."""

    async def work() -> None:
        bench.publish("m", *[str(number) for number in range(1, 301)])
        await bench.directory.load("m", "7")
        assert await bench.ask() == "7"
        assert (bench.records[-1].candidates, bench.records[-1].reason) == (("m@7/w0",), "only_version")
        await bench.directory.load("m", "300")
        assert await bench.ask() == "300"
        assert dict(bench.records[-1].rejected) == {"m@7": "a newer version is ready"}
        with pytest.raises(VersionNotReady, match="m@200 is not loaded"):
            await bench.ask(version="200")
        assert dict(bench.records[-1].rejected) == {
            "m@200": "it is found",
            "m@300": "the request names another version",
            "m@7": "the request names another version",
        }
        await bench.directory.unload("m", "300")
        assert await bench.ask() == "7"
        assert bench.records[-1].candidates == ("m@7/w0",)

    run(work())


def test_a_decision_for_a_named_version_follows_its_changes(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1", "2")
        await bench.directory.load("m", "2")
        for _ in range(2):
            with pytest.raises(VersionNotReady, match="m@1 is not loaded"):
                await bench.ask(version="1")
        await bench.directory.load("m", "1")
        assert [await bench.ask(version="1"), await bench.ask(version="2")] == ["1", "2"]
        await bench.directory.pin("m", "1")
        assert (await bench.ask(), bench.records[-1].reason) == ("1", "pinned_version")
        await bench.directory.unload("m", "1")
        with pytest.raises(VersionNotReady, match="m@1 is unloaded"):
            await bench.ask()

    run(work())


def test_a_refused_call_is_recorded_with_nobody_chosen(bench: Any) -> None:
    """X-47: a version that the caller made up is not written down."""

    async def work() -> None:
        bench.publish("m", "1")
        await bench.directory.load("m")
        with pytest.raises(VersionUnknown):
            await bench.ask(version="9")
        assert (bench.records[-1].chosen, bench.records[-1].fields["asked"]) == ("", "unknown")

    run(work())


def test_work_goes_to_the_worker_with_the_least_accepted(make_bench: Any) -> None:
    async def work() -> None:
        bench = make_bench(pool=FakePool(workers=2))
        bench.publish("m", "1")
        await bench.directory.load("m")
        gate = asyncio.Event()

        async def slow(ref: VersionRef, call: Any) -> None:
            await gate.wait()

        bench.pool.serve = slow
        calls = [asyncio.create_task(bench.ask()) for _ in range(6)]
        await asyncio.sleep(0)
        assert [w.running for w in bench.pool.workers()] == [3, 3]
        assert bench.service.alive() == 6
        bench.clock.advance(500)
        assert bench.service.oldest_age_ns() == 500
        gate.set()
        await asyncio.gather(*calls)
        assert (bench.service.alive(), bench.service.oldest_age_ns()) == (0, 0)

    run(work())


@pytest.mark.parametrize("workers", [1, 2])
def test_no_worker_that_takes_work_is_a_transient_refusal(make_bench: Any, workers: int) -> None:
    async def work() -> None:
        bench = make_bench(pool=FakePool(workers=workers))
        bench.publish("m", "1")
        await bench.directory.load("m")
        for name in ("w0", "w1"):
            bench.pool.states[name] = WorkerState.STALLED
        with pytest.raises(NoWorkerReady, match="w0 stalled") as refused:
            await bench.ask()
        assert (refused.value.http_status, refused.value.retry_after_s > 0) == (503, True)
        assert bench.records[-1].chosen == ""

    run(work())


def test_an_id_that_is_alive_is_refused_and_the_first_call_goes_on(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1")
        await bench.directory.load("m")
        call = bench.call()
        first = asyncio.create_task(bench.service.infer(call))
        await asyncio.sleep(0)
        with pytest.raises(DuplicateRequest):
            await bench.service.infer(call)
        assert (await first).id == call.id
        await bench.service.infer(call)

    run(work())


def test_a_cancelled_call_has_one_outcome_and_an_unknown_one_has_none(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1")
        await bench.directory.load("m")

        async def forever(ref: VersionRef, call: Any) -> None:
            await asyncio.Event().wait()

        bench.pool.serve = forever
        call = bench.call()
        task = asyncio.create_task(bench.service.infer(call))
        await asyncio.sleep(0.01)
        assert not bench.service.cancel(RequestId("nobody"))
        assert bench.service.cancel(call.id)
        with pytest.raises(FakeRunFailed, match="cancelled"):
            await task
        task = asyncio.create_task(bench.service.infer(bench.call()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert bench.service.alive() == 0
        assert [w.running for w in bench.pool.workers()] == [0]

    run(work())


def test_a_share_goes_to_the_canary_and_the_decision_replays(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1", "2")
        await bench.directory.load("m", "1")
        await bench.directory.load("m", "2", {"canary_share": 0.25})
        answers = [await bench.ask() for _ in range(400)]
        expected = ["2" if request_draw(f"q{n + 1}", "m@2") < 0.25 else "1" for n in range(400)]
        assert answers == expected
        assert 60 < answers.count("2") < 140
        for record in bench.records:
            assert record.reason == ("canary_share" if record.chosen == "m@2/w0" else "newest_ready")
            assert (record.fields["draw"] < 0.25) == (record.reason == "canary_share")

    run(work())


def failing(version: str) -> Any:
    async def serve(ref: VersionRef, call: Any) -> None:
        await asyncio.sleep(0)
        if ref.version == version:
            raise FakeRunFailed(version=str(ref), reason="wrong weights")

    return serve


def test_a_canary_that_fails_is_rolled_back_by_its_rule_and_says_why(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1", "2")
        await bench.directory.load("m", "1")
        await bench.directory.load("m", "2", {"canary_share": 0.5})
        bench.directory.canaries.end("m", promote=False)
        policy = RolloutPolicy(share=0.5, min_requests=10, error_margin=0.1)
        bench.directory.canaries.start("m", "2", policy)
        bench.pool.serve = failing("2")
        errors = 0
        for _ in range(200):
            try:
                await bench.ask()
            except FakeRunFailed:
                errors += 1
        assert errors == 10
        rollout = bench.directory.canaries.rollout("m")
        assert (rollout.state, rollout.canary.version) == (RolloutState.ROLLED_BACK, "2")
        assert rollout.reason.startswith("10 errors of 10 requests, base 0 of")
        kind, subject, fields = bench.events[-1]
        assert (kind, subject, fields) == ("canary.rolled_back", "m@2", {"reason": rollout.reason})
        with pytest.raises(FakeRunFailed):
            await bench.ask(version="2")

    run(work())


def test_a_canary_that_is_slow_is_rolled_back(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1", "2")
        await bench.directory.load("m", "1")
        await bench.directory.load("m", "2")
        policy = RolloutPolicy(share=0.5, min_requests=10, latency_factor=3.0)

        async def timed(ref: VersionRef, call: Any) -> None:
            bench.clock.advance(400 if ref.version == "2" else 100)

        bench.pool.serve = timed
        bench.directory.canaries.start("m", "2", policy)
        for _ in range(100):
            await bench.ask()
        rollout = bench.directory.canaries.rollout("m")
        assert rollout.reason == "p99 400 ns, base 100 ns, factor 3"

    run(work())


def test_a_good_canary_is_promoted_when_asked_for(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1", "2")
        await bench.directory.load("m", "1")
        await bench.directory.load("m", "2")
        bench.directory.canaries.start("m", "2", RolloutPolicy(share=0.5, min_requests=5, promote_after=20))
        for _ in range(100):
            await bench.ask()
        assert bench.directory.canaries.rollout("m").state is RolloutState.PROMOTED
        assert await bench.ask() == "2"

    run(work())


def test_an_older_version_is_promoted_before_a_newer_one(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1", "2", "3")
        for version in ("1", "2", "3"):
            await bench.directory.load("m", version)
        bench.directory.canaries.start("m", "1", RolloutPolicy(share=0.5))
        await bench.directory.promote("m")
        assert {await bench.ask() for _ in range(10)} == {"1"}
        bench.publish("m", "4")
        await bench.directory.load("m", "4")
        assert await bench.ask() == "4"

    run(work())


def test_a_promotion_moves_the_pin_and_is_refused_where_it_would_change_nothing(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1", "2")
        await bench.directory.load("m", "1")
        await bench.directory.pin("m", "1")
        await bench.directory.load("m", "2")
        with pytest.raises(CanaryRefused, match="pinned"):
            bench.directory.canaries.start("m", "2", RolloutPolicy(promote_after=100))
        bench.directory.canaries.start("m", "2", RolloutPolicy())
        with pytest.raises(CanaryRefused, match="pinned"):
            bench.directory.canaries.end("m", promote=True)
        await bench.directory.promote("m")
        assert await bench.ask() == "2"
        assert [v.state.value for v in bench.repository.versions()] == ["published", "pinned"]
        with pytest.raises(NoCanaryRuns, match="no canary of m runs"):
            await bench.directory.promote("m")

    run(work())


def test_how_a_call_without_a_result_was_answered_is_recorded(bench: Any) -> None:
    """L4-17: also what was refused before any queue is told by the log alone."""

    async def work() -> None:
        bench.publish("m", "1")
        await bench.directory.load("m")
        bench.pool.serve = failing("1")
        with pytest.raises(FakeRunFailed) as failed:
            await bench.ask()
        routed, answered = bench.records
        assert (routed.reason, answered.reason) == ("only_version", "answered")
        assert (answered.request, answered.chosen) == (routed.request, "")
        assert answered.fields == {"code": failed.value.code, "status": failed.value.http_status}

    run(work())
