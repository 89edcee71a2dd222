"""The life of versions at a server (L3-03..L3-05, L3-18, L3-21, L4-64)."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plumbline.contracts.inference import InferenceCall, InferenceResult, InferenceTiming, VersionRef
from plumbline.contracts.models import VersionState
from plumbline.contracts.requests import RequestId
from plumbline.errors import ArtifactError, PlumblineError
from plumbline.serving.models.directory import Directory
from plumbline.serving.models.index import repository_index
from plumbline.serving.models.refusals import (
    CanaryRefused,
    NoCanaryRuns,
    NoVersionLoaded,
    RevisionMismatch,
    TooManyInputs,
    VersionBusy,
    VersionLoading,
    VersionNotReady,
)
from plumbline.serving.models.rollout import RolloutPolicy, RolloutState
from plumbline.serving.models.statistics import VersionCounters
from plumbline.serving.repository.folder import FolderRepository
from plumbline.serving.repository.refusals import (
    EntryAmbiguous,
    ModelUnknown,
    RepositoryFolderGone,
    SettingsRefused,
    VersionPinned,
    VersionRetired,
    VersionUnknown,
    VersionUnusable,
)
from plumbline.testing.fake_pool import FakePool, FakePoolBudgetExceeded, FakeRunFailed

READY, FAILED, UNLOADED, FOUND = (
    VersionState.READY,
    VersionState.FAILED,
    VersionState.UNLOADED,
    VersionState.FOUND,
)


async def until(happened: Callable[[], bool]) -> None:
    """Wait for it; `run` bounds the waiting."""
    while not happened():
        await asyncio.sleep(0.001)


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await work

    asyncio.run(bounded())


def test_a_version_is_ready_only_after_prepare_load_and_warm_up(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1")
        await bench.directory.load("m")
        assert bench.kinds() == [f"model.{s} m@1" for s in ("preparing", "loading", "warming", "ready")]
        assert bench.prepared == [VersionRef(model="m", version="1")]
        assert bench.directory.is_ready("m")
        assert bench.directory.metadata("m").ref.version == "1"
        (status,) = bench.directory.statuses()
        assert (status.settings["revision"], status.share) == ("r1", 1.0)

    run(work())


def test_a_load_without_a_version_takes_the_newest_that_is_not_retired(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "9", "10", "11")
        bench.repository.retire(VersionRef(model="m", version="11"))
        await bench.directory.load("m")
        assert bench.state("m", "10") is READY
        assert bench.state("m", "9") is FOUND

    run(work())


def test_versions_serve_side_by_side_and_a_request_pins_one(bench: Any) -> None:
    """L3-21."""

    async def work() -> None:
        bench.publish("m", "1", "2")
        await bench.directory.load("m", "1")
        assert await bench.ask() == "1"
        await bench.directory.load("m", "2")
        assert [await bench.ask(version=v) for v in (None, "1", "2")] == ["2", "1", "2"]
        await bench.directory.unload("m", "2")
        assert await bench.ask() == "1"

    run(work())


def test_an_operators_pin_beats_the_newest(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1", "2")
        await bench.directory.load("m", "1")
        await bench.directory.load("m", "2")
        await bench.directory.pin("m", "1")
        assert await bench.ask() == "1"
        assert {s.ref.version: s.share for s in bench.directory.statuses()} == {"1": 1.0, "2": 0.0}
        await bench.directory.unpin("m", "1")
        assert await bench.ask() == "2"

    run(work())


def test_a_failed_load_keeps_the_other_version_serving_and_says_why(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1", "2")
        await bench.directory.load("m", "1")
        bench.pool.load_error = FakeRunFailed(version="m@2", reason="no kernel for Foo")
        with pytest.raises(FakeRunFailed):
            await bench.directory.load("m", "2")
        assert await bench.ask() == "1"
        rows = {row["version"]: row for row in repository_index(bench.directory.statuses())}
        assert (rows["1"]["state"], rows["2"]["state"]) == ("READY", "UNAVAILABLE")
        assert "no kernel for Foo" in rows["2"]["reason"]
        bench.pool.load_error = None
        await bench.directory.load("m", "2")
        assert await bench.ask() == "2"

    run(work())


def test_a_version_that_does_not_fit_keeps_the_numbers_in_its_status(make_bench: Any) -> None:
    async def work() -> None:
        bench = make_bench(pool=FakePool(budget_bytes=150))
        bench.publish("m", "1", "2")
        await bench.directory.load("m", "1")
        with pytest.raises(FakePoolBudgetExceeded):
            await bench.directory.load("m", "2")
        (status,) = [s for s in bench.directory.statuses() if s.ref.version == "2"]
        assert status.reason == "m@2 needs 100 bytes; 100 of 150 are taken"

    run(work())


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"model.onnx": b"1", "a.graph": b"2"}, EntryAmbiguous),
        ({"README.md": b"1"}, EntryAmbiguous),
        ({"model.onnx": b"1", "version.toml": b"speed = 9"}, SettingsRefused),
    ],
)
def test_a_version_that_is_ambiguous_or_set_wrongly_never_reaches_a_worker(
    bench: Any,
    files: dict[str, bytes],
    error: type[PlumblineError],
) -> None:
    """L3-05."""

    async def work() -> None:
        bench.publish("m", "1", files=files)
        with pytest.raises(error):
            await bench.directory.load("m")
        assert bench.state("m", "1") is FAILED
        assert (bench.pool.history, bench.prepared) == ([], [])
        assert list(bench.copies.iterdir()) == []

    run(work())


def test_a_flipped_byte_is_an_artifact_error_before_anything_is_prepared(bench: Any) -> None:
    """L3-04."""

    async def work() -> None:
        bench.publish("m", "1")
        bench.repository._content[VersionRef(model="m", version="1")]["model.onnx"] = b"m0"
        with pytest.raises(ArtifactError):
            await bench.directory.load("m")
        assert (bench.pool.history, bench.prepared) == ([], [])

    run(work())


def test_a_load_may_insist_on_revision_and_digest(bench: Any) -> None:
    """L3-03: an unknown revision is refused."""

    async def work() -> None:
        bench.publish("m", "1")
        with pytest.raises(RevisionMismatch, match="r1, asked for was r9"):
            await bench.directory.load("m", settings={"revision": "r9"})
        with pytest.raises(RevisionMismatch, match="digest"):
            await bench.directory.load("m", settings={"digest": "0" * 64})
        assert bench.state("m", "1") is FOUND
        digest = bench.repository.versions()[0].digest
        await bench.directory.load("m", settings={"revision": "r1", "digest": digest})

    run(work())


def test_settings_of_a_load_replace_those_of_the_version(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1", files={"model.onnx": b"1", "version.toml": b"instances = 2\nthreads = 2"})
        await bench.directory.load("m", settings={"instances": 4})
        (status,) = bench.directory.statuses()
        assert (status.settings["instances"], status.settings["threads"]) == (4, 2)
        await bench.directory.load("m", "1")
        with pytest.raises(VersionBusy):
            await bench.directory.load("m", "1", {"instances": 5})
        with pytest.raises(SettingsRefused, match=r"known: .*canary_share"):
            await bench.directory.load("m", "1", {"speed": 5})

    run(work())


@pytest.mark.parametrize("share", [0, 1, -1, 2, True, "half"])
def test_a_canary_share_that_cannot_be_is_refused(bench: Any, share: object) -> None:
    async def work() -> None:
        bench.publish("m", "1")
        with pytest.raises(SettingsRefused, match="canary_share"):
            await bench.directory.load("m", settings={"canary_share": share})

    run(work())


def test_unknown_not_ready_loading_and_retired_are_told_apart(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1", "2")
        await bench.directory.refresh()
        for model, version, error, status in (
            ("nobody", None, ModelUnknown, 404),
            ("m", "9", VersionUnknown, 404),
            ("m", "1", VersionNotReady, 409),
            ("m", None, NoVersionLoaded, 409),
        ):
            assert not bench.directory.is_ready(model, version)
            for ask in (bench.ask(model, version), _metadata(bench, model, version)):
                with pytest.raises(error) as refused:
                    await ask
                assert refused.value.http_status == status
                if error is VersionNotReady:
                    assert refused.value.message == "m@1 is not loaded"
        bench.pool.load_gate = asyncio.Event()
        load = asyncio.create_task(bench.directory.load("m", "1"))
        while bench.state("m", "1") is not VersionState.LOADING:
            await asyncio.sleep(0.001)
        for version in ("1", None):
            with pytest.raises(VersionLoading) as loading:
                await bench.ask("m", version)
            assert (loading.value.http_status, loading.value.retry_after_s > 0) == (503, True)
        bench.pool.load_gate.set()
        await load
        await bench.directory.retire("m", "2")
        with pytest.raises(VersionRetired) as retired:
            await bench.ask("m", "2")
        assert retired.value.http_status == 409

    run(work())


def test_a_request_that_leaves_the_version_open_is_told_what_there_is(bench: Any) -> None:
    """The newest is retired and the others are unloaded: nobody asked for the retired one."""

    async def work() -> None:
        bench.publish("m", *"123456789", "10")
        for version in ("9", "10"):
            await bench.directory.load("m", version)
        await bench.directory.retire("m", "10")
        await bench.directory.unload("m", "9")
        with pytest.raises(NoVersionLoaded) as refused:
            await bench.ask("m")
        assert refused.value.message == (
            "no version of m is loaded: 10 is retired, 9 is unloaded, 8 is not loaded, 7 is not loaded, "
            "6 is not loaded and 5 more"
        )
        bench.prepare_error = FakeRunFailed(version="m@9", reason="it is broken")
        with pytest.raises(FakeRunFailed):
            await bench.directory.load("m")
        with pytest.raises(VersionNotReady, match="m@9 is failed: m@9: it is broken"):
            await bench.ask("m")

    run(work())


async def _metadata(bench: Any, model: str, version: str | None) -> None:
    bench.directory.metadata(model, version)


def test_a_retired_version_finishes_its_work_and_is_gone(bench: Any) -> None:
    """L4-64: retire."""

    async def work() -> None:
        bench.publish("m", "1", "2")
        await bench.directory.load("m", "1")
        await bench.directory.load("m", "2")
        gate = asyncio.Event()

        async def slow(ref: VersionRef, call: Any) -> None:
            await gate.wait()

        bench.pool.serve = slow
        running = asyncio.create_task(bench.ask(version="2"))
        await asyncio.sleep(0)
        retiring = asyncio.create_task(bench.directory.retire("m", "2"))
        while bench.state("m", "2") is not VersionState.UNLOADING:
            await asyncio.sleep(0.001)
        gate.set()
        assert await running == "2"
        await retiring
        assert bench.state("m", "2") is VersionState.RETIRED
        assert await bench.ask() == "1"
        with pytest.raises(VersionRetired):
            await bench.directory.load("m", "2")
        await bench.directory.pin("m", "1")
        with pytest.raises(VersionPinned):
            await bench.directory.retire("m", "1")

    run(work())


def test_loads_and_unloads_of_one_version_wait_for_each_other(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1")
        await asyncio.gather(*(bench.directory.load("m", "1") for _ in range(5)))
        assert bench.pool.history == ["load m@1"]
        await asyncio.gather(bench.directory.unload("m"), bench.directory.load("m", "1"))
        await asyncio.gather(*(bench.directory.unload("m", "1") for _ in range(3)))
        assert bench.pool.history[-1] == "unload m@1"
        assert bench.state("m", "1") is UNLOADED
        loads = [entry.split()[0] for entry in bench.pool.history]
        assert all(a != b for a, b in itertools.pairwise(loads))
        assert list(bench.copies.iterdir()) == []

    run(work())


def test_a_load_goes_on_when_its_caller_leaves(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1")
        bench.pool.load_gate = asyncio.Event()
        load = asyncio.create_task(bench.directory.load("m", "1"))
        while not bench.prepared:
            await asyncio.sleep(0.001)
        load.cancel()
        with pytest.raises(asyncio.CancelledError):
            await load
        bench.pool.load_gate.set()
        while bench.state("m", "1") is not READY:
            await asyncio.sleep(0.001)
        await bench.directory.close()
        assert not bench.copies.exists()

    run(work())


def test_a_preparation_that_fails_is_kept_as_reason_and_leaves_no_copy(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1")
        bench.prepare_error = FakeRunFailed(version="m@1", reason="does not compile")
        await bench.directory.start()
        (unready,) = bench.directory.unready()
        assert "does not compile" in unready.reason
        assert list(bench.copies.iterdir()) == []
        bench.prepare_error = None
        await bench.directory.load("m")
        assert list(bench.directory.unready()) == []

    run(work())


def test_a_start_prepares_several_at_once_and_loads_in_the_order_of_the_names(bench: Any) -> None:
    """L3-18: the fast one behind a slow one is prepared beside it, and loaded after it."""

    async def work() -> None:
        for name in ("a", "b", "c"):
            bench.publish(name, "1")
        begun: list[str] = []
        may_go = {name: asyncio.Event() for name in ("a", "b", "c")}

        async def prepare(spec: Any) -> None:
            begun.append(spec.ref.model)
            await may_go[spec.ref.model].wait()

        directory = bench.made_again(prepare, at_once=2)
        starting = asyncio.create_task(directory.start())
        await until(lambda: set(begun) == {"a", "b"})
        may_go["b"].set()
        await until(lambda: set(begun) == {"a", "b", "c"})
        may_go["c"].set()
        assert bench.pool.history == []
        may_go["a"].set()
        await starting
        assert bench.pool.history == ["load a@1", "load b@1", "load c@1"]

    run(work())


def test_a_version_that_waits_for_its_turn_at_a_start_is_a_transient_refusal(bench: Any) -> None:
    """A client that tries again gets its answer; an unloaded version would be a lasting 409."""

    async def work() -> None:
        bench.publish("a", "1")
        bench.publish("b", "1", "2")
        may_go = asyncio.Event()

        async def prepare(spec: Any) -> None:
            await may_go.wait()

        directory = bench.made_again(prepare, at_once=1)
        starting = asyncio.create_task(directory.start())
        await until(lambda: any(s.state is VersionState.PREPARING for s in directory.statuses()))
        for version in (None, "2"):
            with pytest.raises(VersionLoading, match="b@2 is waiting for its turn") as waits:
                directory.metadata("b", version)
            assert (waits.value.http_status, waits.value.retry_after_s > 0) == (503, True)
        with pytest.raises(VersionNotReady, match="b@1 is not loaded"):
            directory.metadata("b", "1")
        may_go.set()
        await starting
        assert directory.is_ready("b")

    run(work())


def test_a_model_that_cannot_be_prepared_keeps_no_other_from_a_start(bench: Any) -> None:
    async def work() -> None:
        for name in ("a", "b"):
            bench.publish(name, "1")

        async def prepare(spec: Any) -> None:
            if spec.ref.model == "a":
                raise FakeRunFailed(version=str(spec.ref), reason="it is broken")

        directory = bench.made_again(prepare, at_once=2)
        await directory.start()
        states = {s.ref.model: (s.state, s.reason) for s in directory.statuses()}
        assert states == {"a": (FAILED, "a@1: it is broken"), "b": (READY, "")}
        assert [str(s.ref) for s in directory.unready()] == ["a@1"]

    run(work())


def test_a_version_with_more_inputs_than_a_request_may_have_is_refused_at_load(bench: Any) -> None:
    """It would be ready, and nobody could call it."""

    async def work() -> None:
        bench.publish("m", "1")
        directory = Directory(
            bench.repository, bench.pool, prepare=_nothing_to_prepare, copies=bench.copies / "own",
            clock=bench.clock, max_inputs=0,
        )  # fmt: skip
        with pytest.raises(TooManyInputs, match=r"m@1 has 1 inputs; a request may have 0"):
            await directory.load("m")
        assert bench.pool.history == ["load m@1", "unload m@1"]
        (status,) = directory.statuses()
        assert (status.state, status.reason) == (FAILED, "m@1 has 1 inputs; a request may have 0")

    run(work())


async def _nothing_to_prepare(spec: Any) -> None:
    assert (spec.folder / spec.entry).exists()


def test_settings_of_another_server_are_told_once_and_count_nothing(bench: Any, tmp_path: Path) -> None:
    """Whoever comes from Triton has `config.pbtxt` beside the version folders."""

    async def work() -> None:
        for model in ("a", "b"):
            (tmp_path / "models" / model / "1").mkdir(parents=True)
            (tmp_path / "models" / model / "1" / "model.onnx").write_bytes(b"1")
        (tmp_path / "models" / "a" / "config.pbtxt").write_text("max_batch_size: 8")
        directory = Directory(
            FolderRepository(tmp_path / "models"), bench.pool, prepare=_nothing_to_prepare,
            copies=bench.copies / "own", clock=bench.clock,
            announce=lambda kind, subject, **fields: told.append((kind, subject, fields)),
        )  # fmt: skip
        await directory.start()
        await directory.refresh()
        notes = [(subject, fields["reason"]) for kind, subject, fields in told if kind == "model.note"]
        assert notes == [
            ("a", "config.pbtxt is not read; settings are version.toml in the folder of a version")
        ]
        assert directory.is_ready("a")

    told: list[tuple[str, str, dict[str, Any]]] = []
    run(work())


def test_a_start_that_is_given_up_leaves_no_copy_and_nobody_waiting(bench: Any) -> None:
    async def work() -> None:
        for name in ("a", "b", "c"):
            bench.publish(name, "1")
        begun: list[str] = []

        async def prepare(spec: Any) -> None:
            begun.append(spec.ref.model)
            await asyncio.Event().wait()

        directory = bench.made_again(prepare)
        starting = asyncio.create_task(directory.start())
        await until(lambda: begun == ["a"])
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await directory.close()
        assert begun == ["a"]
        assert {s.ref.model: s.state for s in directory.statuses()} == {"a": FAILED, "b": FOUND, "c": FOUND}
        assert not (bench.copies / "again").exists()

    run(work())


def test_an_empty_version_folder_is_unavailable_in_the_index_and_keeps_no_other_from_serving(
    bench: Any, tmp_path: Path
) -> None:
    """As in Triton's index; the server is ready without it."""

    async def work() -> None:
        (tmp_path / "models" / "m" / "1").mkdir(parents=True)
        (tmp_path / "models" / "m" / "1" / "model.onnx").write_bytes(b"x")
        (tmp_path / "models" / "m" / "3").mkdir()
        (tmp_path / "models" / "hollow" / "7").mkdir(parents=True)
        directory = bench.made_again(None, FolderRepository(tmp_path / "models"))
        await directory.start()
        rows = {(r["name"], r["version"]): r for r in repository_index(directory.statuses())}
        assert {key: row["state"] for key, row in rows.items()} == {
            ("m", "1"): "READY",
            ("m", "3"): "UNAVAILABLE",
            ("hollow", "7"): "UNAVAILABLE",
        }
        assert rows["m", "3"]["reason"] == "found: its folder is empty"
        assert directory.unready() == []
        assert directory.is_ready("m")
        with pytest.raises(VersionUnusable, match="its folder is empty"):
            await directory.load("m", "3")
        with pytest.raises(VersionNotReady, match="not loaded: its folder is empty"):
            directory.metadata("hollow")
        (tmp_path / "models" / "m" / "3" / "model.onnx").write_bytes(b"y")
        await directory.load("m")
        await directory.load("m", "3")
        assert directory.is_ready("m", "3")

    run(work())


def test_files_that_could_not_be_used_may_be_corrected_and_those_that_were_used_may_not(
    bench: Any, tmp_path: Path
) -> None:
    """A copy that still goes on and a misspelt key end one load, not the version."""

    async def work() -> None:
        folder = tmp_path / "models" / "m" / "1"
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(b"x")
        (folder / "version.toml").write_text("max_bach = 4")
        directory = bench.made_again(None, FolderRepository(tmp_path / "models"))
        await directory.start()
        for wrong in ("max_batch = 'four'", "instances = 0"):
            (folder / "version.toml").write_text(wrong)
            with pytest.raises(SettingsRefused):
                await directory.load("m")
        (folder / "version.toml").write_text("max_batch = 4")
        await directory.load("m")
        assert directory.is_ready("m", "1")
        await directory.unload("m", "1")
        (folder / "version.toml").write_text("max_batch = 5")
        with pytest.raises(VersionUnusable, match="its files changed since"):
            await directory.load("m")

    run(work())


def test_a_start_serves_what_is_left_where_a_version_or_a_model_was_removed(
    bench: Any, tmp_path: Path
) -> None:
    """Who removes a folder wants it gone: the server is ready, and the version before it serves."""

    async def work() -> None:
        for name in ("m/1", "m/2", "gone/1"):
            (tmp_path / "models" / name).mkdir(parents=True)
            (tmp_path / "models" / name / "model.onnx").write_bytes(name.encode())
        await bench.made_again(None, FolderRepository(tmp_path / "models")).start()
        shutil.rmtree(tmp_path / "models" / "m" / "2")
        shutil.rmtree(tmp_path / "models" / "gone")
        shutil.rmtree(bench.copies / "again")
        directory = bench.made_again(None, FolderRepository(tmp_path / "models"))
        await directory.start()
        assert directory.unready() == []
        assert directory.is_ready("m", "1")
        rows = {(r["name"], r["version"]): r["reason"] for r in repository_index(directory.statuses())}
        assert rows["m", "2"] == rows["gone", "1"] == "found: its files are gone"
        with pytest.raises(VersionUnusable, match="its files are gone"):
            await directory.load("gone")

    run(work())


def test_a_repository_that_vanishes_is_told_and_comes_back_by_itself(bench: Any, tmp_path: Path) -> None:
    """What is loaded serves on; what asks for the repository gets a typed refusal that may be tried again."""

    async def work() -> None:
        root = tmp_path / "models"
        (root / "m" / "1").mkdir(parents=True)
        (root / "m" / "1" / "model.onnx").write_bytes(b"x")
        directory = bench.made_again(None, FolderRepository(root))
        await directory.start()
        assert directory.repository_trouble() == ""
        root.rename(tmp_path / "away")
        with pytest.raises(RepositoryFolderGone):
            await directory.load("other")
        assert directory.is_ready("m", "1")
        assert "No such file" in directory.repository_trouble()
        (tmp_path / "away").rename(root)
        await until(lambda: not directory.repository_trouble())
        assert directory.is_ready("m", "1")
        await directory.close()

    run(work())


def test_start_loads_the_newest_and_the_pinned_of_the_named_models(bench: Any) -> None:
    async def work() -> None:
        bench.publish("a", "1", "2", "3")
        bench.publish("b", "1")
        bench.repository.pin(VersionRef(model="a", version="1"))
        await bench.directory.start(["a"])
        ready = [s.ref.version for s in bench.directory.statuses() if s.state is READY]
        assert ready == ["3", "1"]
        with pytest.raises(ModelUnknown):
            await bench.directory.start(["nobody"])

    run(work())


def test_what_vanishes_from_the_repository_is_forgotten_unless_it_serves(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1", "2")
        await bench.directory.load("m", "2")
        bench.repository._shelf.clear()
        await bench.directory.refresh()
        assert [s.ref.version for s in bench.directory.statuses()] == ["2"]
        assert await bench.ask() == "2"

    run(work())


def test_statistics_count_as_tritons_do(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1")
        await bench.directory.load("m")
        for rows in (1, 3):
            await bench.service.infer(bench.call(inputs={"x": np.zeros((rows, 1), np.float32)}))

        async def fail(ref: VersionRef, call: Any) -> None:
            raise FakeRunFailed(version=str(ref), reason="wanted")

        bench.pool.serve = fail
        with pytest.raises(FakeRunFailed):
            await bench.ask()
        (found,) = bench.directory.statistics("m", "1")
        assert (found.inferences, found.executions, found.successes, found.failures) == (4, 2, 2, 1)
        assert found.batches[1][0] == 2
        assert list(bench.directory.statistics("m")) == [found]
        with pytest.raises(ModelUnknown):
            bench.directory.statistics("nobody")

    run(work())


def test_a_shared_launch_counts_once() -> None:
    ref = VersionRef(model="m", version="1")
    counters = VersionCounters(ref, batched=False)
    timing = InferenceTiming(queued_ns=5, launched_ns=10, finished_ns=30, batched=3)
    for n in range(6):
        call = InferenceCall(id=RequestId(str(n)), model="m")
        result = InferenceResult(id=call.id, served_by=ref, outputs={}, timing=timing)
        counters.succeed(call, result, started_ns=0, now_ns=40, wall_ns=7)
    found = counters.snapshot()
    assert (found.executions, found.inferences, found.batches) == (2, 6, {3: (2, 40)})
    assert (found.queue_ns, found.compute_ns, found.success_ns) == (30, 120, 240)
    assert found.last_inference_wall_ns == 7


def test_a_canary_needs_a_base_and_keeps_it(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1", "2", "3")
        with pytest.raises(CanaryRefused, match="no other version"):
            await bench.directory.load("m", "2", {"canary_share": 0.5})
        await bench.directory.load("m", "1")
        await bench.directory.load("m", "2", {"canary_share": 0.5})
        with pytest.raises(CanaryRefused, match="one already"):
            await bench.directory.load("m", "3", {"canary_share": 0.5})
        for leave in (bench.directory.unload, bench.directory.retire):
            with pytest.raises(VersionBusy, match="compared"):
                await leave("m", "1")
        shares = {s.ref.version: s.share for s in bench.directory.statuses()}
        assert shares == {"1": 0.5, "2": 0.5, "3": 0.0}
        await bench.directory.unload("m", "2")
        rollout = bench.directory.canaries.rollout("m")
        assert (rollout.state, rollout.reason) == (RolloutState.ROLLED_BACK, "it is unloaded")
        with pytest.raises(NoCanaryRuns, match="no canary of m runs"):
            bench.directory.canaries.end("m", promote=True)
        with pytest.raises(CanaryRefused, match="it is unloaded"):
            bench.directory.canaries.start("m", "2", RolloutPolicy())

    run(work())


def test_an_operator_promotes_a_canary(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1", "2")
        await bench.directory.load("m", "1")
        await bench.directory.load("m", "2", {"canary_share": 0.01})
        bench.directory.canaries.end("m", promote=True)
        assert {await bench.ask() for _ in range(20)} == {"2"}
        await bench.directory.unload("m", "1")

    run(work())


def test_closing_gives_up_a_load_and_tells_whoever_waits(bench: Any) -> None:
    async def work() -> None:
        bench.publish("m", "1")
        bench.pool.load_gate = asyncio.Event()
        load = asyncio.create_task(bench.directory.load("m", "1"))
        while not bench.prepared:
            await asyncio.sleep(0.001)
        await bench.directory.close()
        with pytest.raises(asyncio.CancelledError):
            await load
        (status,) = bench.directory.statuses()
        assert (status.state, status.reason) == (FAILED, "given up, the server stops")

    run(work())
