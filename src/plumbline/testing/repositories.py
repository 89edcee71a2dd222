"""The suite that every model repository passes (L3-06, X-68). Inherit it and say how to make one:

    class TestMyRepository(RepositoryConformance):
        @pytest.fixture
        def repository(self): ...
        def damage(self, repository, ref, path): ...

The repository must be empty, trust nobody with code, and take versions of a few kilobytes.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from pathlib import Path

import pytest

from plumbline.contracts.inference import VersionRef
from plumbline.errors import ArtifactError, PlumblineError
from plumbline.serving.repository.digest import content_digest
from plumbline.serving.repository.port import PublishedState, Repository
from plumbline.serving.repository.refusals import (
    CodeRefused,
    FileRefused,
    ModelUnknown,
    NameRefused,
    SettingsRefused,
    VersionExists,
    VersionPinned,
    VersionRetired,
    VersionUnknown,
)

__all__ = ["RepositoryConformance"]

ONE = VersionRef(model="echo", version="1")
TWO = VersionRef(model="echo", version="2")
FILES = {"model.onnx": b"0123456789" * 500, "notes/empty.txt": b"", "notes/read me.txt": b"\x00\xff text"}


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


class RepositoryConformance(ABC):
    """Promises of `serving.repository.port.Repository`."""

    @pytest.fixture
    @abstractmethod
    def repository(self, tmp_path: Path) -> Repository:
        """An empty repository, made anew for each test."""

    @abstractmethod
    def damage(self, repository: Repository, ref: VersionRef, path: str) -> None:
        """Flip one bit of a stored file, without telling the repository."""

    def test_an_empty_repository_lists_nothing(self, repository: Repository) -> None:
        """L3-06."""
        assert list(repository.versions()) == []

    def test_a_published_version_comes_back_byte_for_byte(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        """L4-64: publish, list, fetch."""
        published = repository.publish(ONE, FILES, revision="commit 1")
        assert (published.ref, published.revision, published.state) == (
            ONE,
            "commit 1",
            PublishedState.PUBLISHED,
        )
        assert list(repository.versions()) == [published]
        fetched = repository.fetch(ONE, tmp_path / "copy")
        assert fetched == published
        assert content_of(tmp_path / "copy") == FILES

    def test_digest_and_size_are_those_of_the_files(self, repository: Repository) -> None:
        """L4-64: what is listed is what was published."""
        published = repository.publish(ONE, FILES, revision="r")
        assert [f.path for f in published.files] == sorted(FILES)
        assert published.digest == content_digest(published.files)
        assert published.size_bytes == sum(map(len, FILES.values()))

    def test_a_folder_is_published_as_its_files(self, repository: Repository, tmp_path: Path) -> None:
        """L4-64: both sources are one."""
        source = tmp_path / "source"
        for path, content in FILES.items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_bytes(content)
        digest = repository.publish(ONE, source, revision="r").digest
        assert repository.publish(ONE, FILES, revision="r").digest == digest

    def test_a_calibration_belongs_to_the_machine_and_not_to_the_version(
        self, repository: Repository
    ) -> None:
        """Costs are measured on a machine; they never travel."""
        plain = repository.publish(ONE, FILES, revision="r")
        calibrated = repository.publish(TWO, {**FILES, "calibration.json": b"{}"}, revision="r")
        assert calibrated.digest == plain.digest

    def test_a_file_is_read_in_bounded_chunks(self, repository: Repository) -> None:
        """L3-04: memory does not grow with a file."""
        repository.publish(ONE, FILES, revision="r")
        chunks = list(repository.open_file(ONE, "model.onnx"))
        assert b"".join(chunks) == FILES["model.onnx"]
        assert max(map(len, chunks)) <= 1 << 20

    def test_the_same_content_again_changes_nothing(self, repository: Repository) -> None:
        """L4-64: publishing is idempotent."""
        first = repository.publish(ONE, FILES, revision="r")
        assert repository.publish(ONE, FILES, revision="r") == first
        assert len(repository.versions()) == 1

    def test_other_content_under_the_same_version_is_refused(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        """L4-64: a published version never changes."""
        repository.publish(ONE, FILES, revision="r")
        with pytest.raises(VersionExists):
            repository.publish(ONE, {**FILES, "model.onnx": b"other"}, revision="r")
        repository.fetch(ONE, tmp_path / "copy")
        assert content_of(tmp_path / "copy") == FILES

    def test_one_flipped_bit_is_found_before_anything_is_kept(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        """L3-04."""
        repository.publish(ONE, FILES, revision="r")
        self.damage(repository, ONE, "model.onnx")
        with pytest.raises(ArtifactError):
            repository.fetch(ONE, tmp_path / "copy")
        assert not (tmp_path / "copy").exists()

    def test_a_missing_revision_is_refused(self, repository: Repository) -> None:
        """L3-03."""
        with pytest.raises(SettingsRefused, match="revision"):
            repository.publish(ONE, FILES, revision="")
        assert list(repository.versions()) == []

    def test_versions_stand_side_by_side_in_the_order_of_publication(self, repository: Repository) -> None:
        """L3-21."""
        repository.publish(TWO, FILES, revision="r")
        repository.publish(ONE, {"model.onnx": b"1"}, revision="r")
        listed = repository.versions()
        assert [version.ref for version in listed] == [TWO, ONE]
        assert listed[0].order < listed[1].order

    def test_a_pin_moves_within_a_model(self, repository: Repository) -> None:
        """L4-64: pin."""
        for ref in (ONE, TWO):
            repository.publish(ref, FILES, revision="r")
            assert repository.pin(ref).state is PublishedState.PINNED
        states = {version.ref: version.state for version in repository.versions()}
        assert states == {ONE: PublishedState.PUBLISHED, TWO: PublishedState.PINNED}
        assert repository.unpin(TWO).state is PublishedState.PUBLISHED

    def test_a_pinned_version_is_not_retired(self, repository: Repository) -> None:
        """L4-64: a pin protects."""
        repository.publish(ONE, FILES, revision="r")
        repository.pin(ONE)
        with pytest.raises(VersionPinned):
            repository.retire(ONE)

    def test_a_retired_version_is_over(self, repository: Repository, tmp_path: Path) -> None:
        """L4-64: retire."""
        repository.publish(ONE, FILES, revision="r")
        assert repository.retire(ONE).state is PublishedState.RETIRED
        with pytest.raises(VersionRetired):
            repository.fetch(ONE, tmp_path / "copy")
        with pytest.raises(VersionRetired):
            repository.pin(ONE)
        with pytest.raises(VersionExists):
            repository.publish(ONE, FILES, revision="r")

    def test_unknown_names_are_told_apart(self, repository: Repository, tmp_path: Path) -> None:
        """L3-05: the refusal says what is missing."""
        repository.publish(ONE, FILES, revision="r")
        with pytest.raises(VersionUnknown):
            repository.fetch(TWO, tmp_path / "copy")
        with pytest.raises(ModelUnknown):
            repository.fetch(VersionRef(model="nobody", version="1"), tmp_path / "copy")
        with pytest.raises(FileRefused):
            list(repository.open_file(ONE, "nothing.txt"))

    @pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", ".hidden", "-x", "a b", "ä", "x" * 200])
    def test_a_name_that_could_leave_its_folder_is_refused(self, repository: Repository, name: str) -> None:
        """L3-05: names are folders and parts of URLs."""
        with pytest.raises(NameRefused):
            repository.publish(VersionRef(model=name, version="1"), FILES, revision="r")
        with pytest.raises(NameRefused):
            repository.publish(VersionRef(model="m", version=name), FILES, revision="r")

    @pytest.mark.parametrize(
        "path", ["../up.txt", "/etc/passwd", "a//b", "a/./b", "a\\b", "", "a/", "C:x", "a\nb", "d/" * 9 + "x"]
    )
    def test_a_path_that_leaves_its_version_is_refused(self, repository: Repository, path: str) -> None:
        """L3-04: no traversal."""
        with pytest.raises(FileRefused):
            repository.publish(ONE, {"model.onnx": b"1", path: b"1"}, revision="r")
        assert list(repository.versions()) == []

    @pytest.mark.parametrize("path", ["code.so", "code.o", "lib/x.so.1", "X.DLL", "m.dylib", "cache.pyc"])
    def test_native_code_is_refused_by_name(self, repository: Repository, path: str) -> None:
        """Native code never comes from a repository."""
        with pytest.raises(FileRefused, match="native code"):
            repository.publish(ONE, {"model.onnx": b"1", path: b"1"}, revision="r")

    def test_native_code_by_another_name_is_refused(self, repository: Repository) -> None:
        """The first bytes are looked at too."""
        with pytest.raises(FileRefused, match="native code"):
            repository.publish(ONE, {"model.onnx": b"\x7fELF\x02\x01"}, revision="r")

    def test_python_code_needs_trust(self, repository: Repository) -> None:
        """The repository under test is not trusted with code."""
        with pytest.raises(CodeRefused):
            repository.publish(ONE, {"model.py": b"class Model: pass"}, revision="r")

    def test_a_copy_never_goes_over_something(self, repository: Repository, tmp_path: Path) -> None:
        """L3-04: nothing is overwritten."""
        repository.publish(ONE, FILES, revision="r")
        (tmp_path / "copy").mkdir()
        (tmp_path / "copy" / "mine.txt").write_text("mine")
        with pytest.raises(FileExistsError):
            repository.fetch(ONE, tmp_path / "copy")
        assert content_of(tmp_path / "copy") == {"mine.txt": b"mine"}

    def test_publishing_at_once_gives_one_winner(self, repository: Repository, tmp_path: Path) -> None:
        """L4-64: of several publishers at once, one wins and the others are told."""
        outcomes: list[str] = []

        def publish(content: bytes) -> None:
            try:
                outcomes.append(repository.publish(ONE, {"model.onnx": content}, revision="r").digest)
            except PlumblineError:
                outcomes.append("refused")

        threads = [threading.Thread(target=publish, args=(bytes([n]),)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert outcomes.count("refused") == 3
        assert repository.fetch(ONE, tmp_path / "copy").digest in outcomes
