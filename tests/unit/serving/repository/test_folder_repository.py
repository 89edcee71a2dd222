"""Folders: files that somebody just put there, files that change, folders that are in the way (L4-64)."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from pathlib import Path

import pytest

from plumbline.contracts.inference import VersionRef
from plumbline.errors import PlumblineError
from plumbline.serving.repository.folder import FolderRepository
from plumbline.serving.repository.port import EMPTY_FOLDER, FILES_GONE, PublishedState, RepositoryLimits
from plumbline.serving.repository.refusals import (
    ContentChanged,
    FileRefused,
    IndexDamaged,
    RepositoryFolderGone,
    RepositoryFolderRefused,
    RepositoryLimitExceeded,
    VersionExists,
    VersionUnusable,
)
from plumbline.serving.repository.specs import newest_usable

ONE, TWO = VersionRef(model="m", version="1"), VersionRef(model="m", version="2")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def drop(root: Path, path: str, content: bytes = b"abc") -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def problem_of(root: Path, ref: VersionRef) -> str:
    (version,) = [v for v in FolderRepository(root).versions() if v.ref == ref]
    return version.problem


def test_a_folder_that_was_just_put_there_is_a_version(root: Path, tmp_path: Path) -> None:
    drop(root, "m/1/model.onnx")
    (version,) = FolderRepository(root).versions()
    assert (version.ref, version.problem, version.revision) == (ONE, "", f"sha256:{version.digest}")
    assert FolderRepository(root).fetch(ONE, tmp_path / "copy") == version


def test_a_model_without_a_version_folder_is_version_one(root: Path, tmp_path: Path) -> None:
    drop(root, "m/model.onnx")
    drop(root, "m/notes/about.txt")
    FolderRepository(root).fetch(ONE, tmp_path / "copy")
    assert (tmp_path / "copy" / "notes" / "about.txt").is_file()


def test_an_encoder_folder_with_sub_folders_is_version_one(root: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"):
        drop(root, f"minilm/{name}")
    (version,) = FolderRepository(root).versions()
    assert version.ref == VersionRef(model="minilm", version="1")
    assert len(version.files) == 4


def test_a_model_beside_version_folders_is_refused_and_says_so(root: Path) -> None:
    """L3-05."""
    drop(root, "m/model.onnx")
    drop(root, "m/2/model.onnx")
    assert "move its files" in problem_of(root, ONE)


def test_files_that_nobody_fetched_may_still_change(root: Path, tmp_path: Path) -> None:
    """A copy that is still going on is not a published version."""
    drop(root, "m/1/model.onnx", b"half")
    repository = FolderRepository(root)
    before = repository.versions()[0]
    drop(root, "m/1/model.onnx", b"half and whole")
    after = repository.versions()[0]
    assert before.digest != after.digest
    assert repository.fetch(ONE, tmp_path / "copy").digest == after.digest


def test_files_that_were_fetched_may_not(root: Path, tmp_path: Path) -> None:
    drop(root, "m/1/model.onnx")
    repository = FolderRepository(root)
    repository.fetch(ONE, tmp_path / "copy")
    drop(root, "m/1/model.onnx", b"other")
    assert "changed" in repository.versions()[0].problem
    with pytest.raises(VersionUnusable, match="changed"):
        FolderRepository(root).fetch(ONE, tmp_path / "again")


def test_a_flipped_byte_that_hides_its_time_is_found_by_its_digest(root: Path, tmp_path: Path) -> None:
    """L3-04: the facts of the file are as before, its content is not."""
    file = drop(root, "m/1/model.onnx", b"abcdef")
    repository = FolderRepository(root)
    repository.fetch(ONE, tmp_path / "copy")
    facts = file.stat()
    with file.open("r+b") as opened:
        opened.write(b"abXdef")
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert repository.versions()[0].problem == ""
    with pytest.raises(ContentChanged, match="SHA-256"):
        repository.fetch(ONE, tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("content", [b"ab", b"abcd"])
def test_a_file_that_is_cut_or_grows_while_it_is_copied_is_refused(
    root: Path, tmp_path: Path, content: bytes
) -> None:
    file = drop(root, "m/1/model.onnx", b"abc")
    repository = FolderRepository(root)
    repository.versions()
    file.write_bytes(content)
    with pytest.raises(ContentChanged):
        repository.fetch(ONE, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_version_whose_files_are_gone_is_still_listed(root: Path) -> None:
    repository = FolderRepository(root)
    repository.publish(ONE, {"model.onnx": b"1"}, revision="r")
    (root / "m" / "1" / "model.onnx").unlink()
    (root / "m" / "1").rmdir()
    assert "gone" in repository.versions()[0].problem
    with pytest.raises(VersionExists):
        repository.publish(ONE, {"model.onnx": b"2"}, revision="r")


def test_states_and_order_survive_a_restart(root: Path) -> None:
    first = FolderRepository(root)
    first.publish(TWO, {"model.onnx": b"2"}, revision="r2")
    first.publish(ONE, {"model.onnx": b"1"}, revision="r1")
    first.pin(TWO)
    first.retire(ONE)
    listed = FolderRepository(root).versions()
    assert [(v.ref, v.state, v.revision) for v in listed] == [
        (TWO, PublishedState.PINNED, "r2"),
        (ONE, PublishedState.RETIRED, "r1"),
    ]


def test_what_one_process_publishes_another_sees(root: Path, tmp_path: Path) -> None:
    reader, writer = FolderRepository(root), FolderRepository(root)
    assert list(reader.versions()) == []
    writer.publish(ONE, {"model.onnx": b"1"}, revision="r")
    reader.fetch(ONE, tmp_path / "copy")
    writer.retire(ONE)
    with pytest.raises(PlumblineError, match="retired"):
        reader.fetch(ONE, tmp_path / "again")


def test_a_publication_that_died_leaves_nothing_listed(root: Path) -> None:
    FolderRepository(root).versions()
    drop(root, ".plumbline/incoming/abc/model.onnx")
    (root / "m").mkdir(parents=True)
    assert list(FolderRepository(root).versions()) == []


def test_an_empty_version_folder_is_listed_until_it_holds_something(root: Path, tmp_path: Path) -> None:
    """As users of Triton know it: what they made is in the index, with the reason why it is not served."""
    drop(root, "m/1/model.onnx")
    (root / "m" / "3").mkdir()
    (root / "m" / "3" / ".gitkeep").write_text("")
    (root / "m" / "notes").mkdir()
    repository = FolderRepository(root)
    listed = {version.ref.version: version for version in repository.versions()}
    assert set(listed) == {"1", "3"}
    assert (listed["3"].problem, listed["3"].is_empty, listed["1"].is_empty) == (EMPTY_FOLDER, True, False)
    assert newest_usable(list(listed.values()), "m").ref.version == "1"
    three = VersionRef(model="m", version="3")
    with pytest.raises(VersionUnusable, match="empty"):
        repository.fetch(three, tmp_path / "copy")
    with pytest.raises(VersionExists, match="its folder is empty"):
        repository.publish(three, {"model.onnx": b"x"}, revision="r")
    drop(root, "m/3/model.onnx")
    assert not next(v for v in repository.versions() if v.ref == three).problem
    assert newest_usable(list(repository.versions()), "m").ref.version == "3"


def test_a_version_that_was_removed_leaves_the_one_before_it_the_newest(root: Path, tmp_path: Path) -> None:
    """Who removes a bad version goes back to the last good one, and is not asked for the bad one again."""
    drop(root, "m/1/model.onnx")
    drop(root, "m/2/model.onnx")
    repository = FolderRepository(root)
    two = VersionRef(model="m", version="2")
    repository.fetch(two, tmp_path / "copy")
    shutil.rmtree(root / "m" / "2")
    listed = repository.versions()
    assert {v.ref.version: (v.problem, v.has_no_files) for v in listed} == {
        "1": ("", False),
        "2": (FILES_GONE, True),
    }
    assert newest_usable(list(listed), "m").ref.version == "1"
    with pytest.raises(VersionUnusable, match="files are gone"):
        repository.fetch(two, tmp_path / "another")


def test_a_folder_that_vanishes_is_transient_trouble_and_what_was_known_comes_back_with_it(
    root: Path, tmp_path: Path
) -> None:
    drop(root, "m/1/model.onnx")
    repository = FolderRepository(root)
    before = repository.versions()
    root.rename(tmp_path / "away")
    with pytest.raises(RepositoryFolderGone) as gone:
        repository.versions()
    assert (gone.value.http_status, gone.value.recoverability) == (503, "transient")
    assert str(tmp_path) not in gone.value.message
    (tmp_path / "away").rename(root)
    assert repository.versions() == before


@pytest.mark.parametrize("place", ["m", "m/1", "m/1/model.onnx"])
def test_a_symbolic_link_is_refused_and_named(root: Path, tmp_path: Path, place: str) -> None:
    outside = drop(tmp_path, "outside/1/model.onnx")
    targets = {"m": outside.parent.parent, "m/1": outside.parent, "m/1/model.onnx": outside}
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).symlink_to(targets[place])
    assert "symbolic link" in problem_of(root, ONE)
    with pytest.raises(VersionUnusable):
        FolderRepository(root).fetch(ONE, tmp_path / "copy")


def test_a_link_put_in_place_of_a_listed_file_is_not_followed(root: Path, tmp_path: Path) -> None:
    file = drop(root, "m/1/model.onnx")
    secret = drop(tmp_path, "secret", b"abc")
    repository = FolderRepository(root)
    repository.versions()
    file.unlink()
    file.symlink_to(secret)
    with pytest.raises(FileRefused):
        repository.fetch(ONE, tmp_path / "copy")
    with pytest.raises(FileRefused):
        list(repository.open_file(ONE, "model.onnx"))
    with pytest.raises(FileRefused):
        list(repository.open_file(ONE, "../../../secret"))


def test_a_pipe_is_not_a_file(root: Path) -> None:
    drop(root, "m/1/model.onnx")
    os.mkfifo(root / "m" / "1" / "pipe")
    assert "not a file" in problem_of(root, ONE)


@pytest.mark.parametrize("name", ["code.so", "code.o"])
def test_a_compiled_artifact_in_a_dropped_folder_is_refused(root: Path, tmp_path: Path, name: str) -> None:
    drop(root, "m/1/model.onnx")
    drop(root, f"m/1/{name}")
    assert "native code" in problem_of(root, ONE)
    with pytest.raises(VersionUnusable, match="native code"):
        FolderRepository(root).fetch(ONE, tmp_path / "copy")


def test_one_bad_version_keeps_no_other_from_being_listed(root: Path) -> None:
    drop(root, "bad/1/model.onnx", b"\x7fELF....")
    drop(root, "bad name/1/model.onnx")
    drop(root, "good/1/model.onnx")
    problems = {v.ref.model: v.problem for v in FolderRepository(root).versions()}
    assert problems["good"] == ""
    assert "native code" in problems["bad"]
    assert "letters, digits" in problems["'bad name'"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": 2, "versions": []}', '{"schema": 1, "versions": [], "more": 1}']
)
def test_a_damaged_index_is_refused_and_not_replaced(root: Path, text: str) -> None:
    drop(root, "m/1/model.onnx")
    index = drop(root, ".plumbline/index.json", text.encode())
    with pytest.raises(IndexDamaged):
        FolderRepository(root).versions()
    assert index.read_text() == text


def test_limits_are_held_by_name(root: Path, tmp_path: Path) -> None:
    limits = RepositoryLimits(max_files=3, max_file_bytes=10, max_version_bytes=15, max_versions=1)
    repository = FolderRepository(root, limits=limits)
    for files in (
        {"model.onnx": bytes(11)},
        {"model.onnx": bytes(9), "b": bytes(9)},
        {f"f{n}": b"" for n in range(4)},
    ):
        with pytest.raises(RepositoryLimitExceeded):
            repository.publish(ONE, files, revision="r")
    repository.publish(ONE, {"model.onnx": bytes(10)}, revision="r")
    with pytest.raises(RepositoryLimitExceeded, match="versions"):
        repository.publish(TWO, {"model.onnx": b""}, revision="r")
    assert sorted(p.name for p in (root / ".plumbline" / "incoming").iterdir()) == []


def test_a_fetch_keeps_memory_bounded(root: Path, tmp_path: Path) -> None:
    """L3-04: 32 MiB pass through a few chunks of 1 MiB."""
    with drop(root, "m/1/model.onnx").open("wb") as file:
        file.truncate(32 << 20)
    repository = FolderRepository(root)
    tracemalloc.start()
    repository.fetch(ONE, tmp_path / "copy")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "copy" / "model.onnx").stat().st_size == 32 << 20
    assert peak_bytes < 6 << 20


def test_a_folder_that_takes_no_writes_still_serves(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root, permissions stop nobody, so the folder of the index is a file instead."""
    drop(root, "m/1/model.onnx")
    (root / ".plumbline").write_text("in the way")
    repository = FolderRepository(root)
    with pytest.raises(PlumblineError):
        repository.pin(ONE)
    assert repository.fetch(ONE, tmp_path / "copy").ref == ONE


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("nothing", "there is no such folder"),
        ("file", "it is not a folder"),
        ("a\0b", "it cannot be read"),
    ],
)
def test_a_root_that_is_no_folder_is_refused(tmp_path: Path, place: str, reason: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RepositoryFolderRefused, match=reason):
        FolderRepository(tmp_path / place)


def test_a_root_that_may_not_be_read_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", denied)
    with pytest.raises(RepositoryFolderRefused, match="it cannot be read: Permission denied"):
        FolderRepository(root)


def test_what_tools_leave_behind_is_no_content(root: Path, tmp_path: Path) -> None:
    """Byte code that an interpreter wrote beside a class, and files whose names begin with a dot."""
    drop(root, "m/1/model.onnx")
    before = FolderRepository(root).versions()
    drop(root, "m/1/__pycache__/model.cpython-311.pyc")
    drop(root, "m/1/.gitattributes")
    assert FolderRepository(root).versions() == before
    FolderRepository(root).fetch(ONE, tmp_path / "copy")
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["model.onnx"]
