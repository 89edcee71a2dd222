"""Whatever comes from outside is read or refused with a type, and never leads out of a folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.versions import VersionSettings
from plumbline.errors import PlumblineError
from plumbline.serving.repository.contents import decide_kind
from plumbline.serving.repository.digest import content_digest
from plumbline.serving.repository.names import verify_file_path, verify_ref
from plumbline.serving.repository.port import FileEntry
from plumbline.serving.repository.refusals import RepositoryAnswerRefused
from plumbline.serving.repository.settings import apply_settings
from plumbline.serving.repository.wire import decode_error, decode_head, decode_index, decode_version

WORDS = ["schema", "versions", "model", "version", "files", "path", "size_bytes", "code", "fields"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), inner)
    ),
    max_leaves=8,
)


@given(st.binary(max_size=200) | JSON.map(lambda value: msgspec.json.encode(value)))
def test_any_answer_is_read_or_refused_with_a_type(data: bytes) -> None:
    for read in (decode_index, decode_version, decode_head):
        with contextlib.suppress(PlumblineError):
            read(data)
    assert isinstance(decode_error(500, data), PlumblineError)


@given(st.binary(max_size=100))
def test_an_error_without_a_known_code_is_a_refused_answer(data: bytes) -> None:
    assert isinstance(decode_error(500, data), RepositoryAnswerRefused)


@given(st.text(max_size=40) | st.lists(st.sampled_from(["a", "..", ".", "", "b.py", "\\"])).map("/".join))
@example("a/../../b")
def test_a_path_that_is_taken_stays_below_its_folder(path: str) -> None:
    try:
        verify_file_path(path, allow_code=True)
    except PlumblineError:
        return
    folder = Path("/repository/m/1")
    joined = folder / path
    assert ".." not in joined.parts
    assert joined.is_relative_to(folder)
    assert joined != folder


@given(st.text(max_size=20), st.text(max_size=20))
def test_names_that_are_taken_are_plain_folders(model: str, version: str) -> None:
    try:
        ref = verify_ref(VersionRef(model=model, version=version))
    except PlumblineError:
        return
    assert Path("/root", ref.model, ref.version).parts == ("/", "root", model, version)


@given(st.dictionaries(st.sampled_from(sorted(VersionSettings.__slots__)) | st.text(max_size=5), JSON))
def test_any_settings_are_taken_or_refused_with_a_type(values: dict[str, object]) -> None:
    try:
        settings = apply_settings(VersionSettings(), values, source="test")
    except PlumblineError:
        return
    assert {name: getattr(settings, name) for name in values}.keys() == values.keys()


@given(st.lists(st.text(min_size=1, max_size=12), max_size=6), st.none() | st.text(max_size=12))
def test_any_files_have_one_kind_or_are_refused(paths: list[str], entry: str | None) -> None:
    try:
        _, found = decide_kind(paths, entry, subject="m@1")
    except PlumblineError:
        return
    assert found == "." or found.partition(":")[0] in paths or found in paths


FILES = st.lists(
    st.builds(
        FileEntry,
        path=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\n"), min_size=1),
        size_bytes=st.integers(0, 1 << 40),
        sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    ),
    unique_by=lambda f: f.path,
    max_size=5,
)


@given(FILES, st.randoms())
def test_a_digest_depends_on_the_files_and_not_on_their_order(files: list[FileEntry], random: object) -> None:
    shuffled = list(files)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert content_digest(shuffled) == content_digest(files)
    if files:
        assert content_digest(files[1:]) != content_digest(files)
