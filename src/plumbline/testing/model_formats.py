"""`ModelFormatConformance`: the suite that every reader of model files passes, ours and a stranger's.

    class TestRows(ModelFormatConformance):
        suffix = ".rows"

        def cases(self): ...
        def read(self, path): return read_graph(path, LoadOptions())
        def open(self, path, **options): return plumbline.load(path, **options)

Good files run; damaged ones end in the error tree whatever byte is wrong; content alone decides the digest;
a second load reads nothing (requirements X-67, L3-04, L3-05).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from plumbline.compiler.graph.graph import ExecutionGraph
from plumbline.engine.model import Model
from plumbline.errors import PlumblineError

__all__ = ["ModelFileCase", "ModelFormatConformance"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFileCase:
    """A file and what it must compute, within float32 rounding.

    Attributes:
        name: for messages.
        content: of the file.
        inputs: of one run.
        outputs: of that run.
    """

    name: str
    content: bytes
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]


class ModelFormatConformance:
    """Inherit, set `suffix`, yield cases, and say how files are read and opened."""

    suffix: ClassVar[str]
    damages: ClassVar[int] = 60

    def cases(self) -> Iterable[ModelFileCase]:
        """At least two files of different content."""
        raise NotImplementedError

    def read(self, path: Path) -> ExecutionGraph:
        """Import a file."""
        raise NotImplementedError

    def open(self, path: Path, *, digest: str | None = None) -> Model:
        """Load a file, with the expected digest where there is one."""
        raise NotImplementedError

    # -- good files ----------------------------------------------------------------------------------------

    def test_file_computes_what_it_says(self, tmp_path: Path) -> None:
        """Every output of every case."""
        for case in self.cases():
            with self.open(self._file(tmp_path, case.content)) as model:
                found = model.run(case.inputs)
            assert set(found) == set(case.outputs), case.name
            for name, value in case.outputs.items():
                np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=case.name)

    def test_content_decides_the_digest_wherever_the_file_lies(self, tmp_path: Path) -> None:
        """Neither place nor time do; other content is another graph."""
        digests = set()
        for number, case in enumerate(self.cases()):
            found = set()
            for place in ("here", "there"):
                (folder := tmp_path / f"{place}{number}").mkdir()
                found.add(self.read(self._file(folder, case.content)).digest)
            assert len(found) == 1, case.name
            digests |= found
        assert len(digests) == len(list(self.cases())) > 1

    def test_second_load_takes_the_executable_of_the_first(self, tmp_path: Path) -> None:
        """By content, wherever the file lies."""
        case = next(iter(self.cases()))
        with self.open(self._file(tmp_path, case.content, "one")) as model:
            folder = model.folder
        with self.open(self._file(tmp_path, case.content, "moved")) as again:
            assert again.folder == folder

    # -- bad files -----------------------------------------------------------------------------------------

    def test_one_flipped_byte_is_refused_where_the_digest_is_known(self, tmp_path: Path) -> None:
        """Before anything is read from it (L3-04)."""
        case = next(iter(self.cases()))
        wrong = bytes([case.content[0] ^ 1]) + case.content[1:]
        good = self._file(tmp_path, case.content)
        found = _refusal(
            lambda: self.open(self._file(tmp_path, wrong, "flipped"), digest=_sha256(good)).close()
        )
        assert found is not None, "a file of another digest was opened"
        assert found.code.startswith("artifact."), found.code

    def test_damaged_files_end_in_the_error_tree(self, tmp_path: Path) -> None:
        """Truncated, flipped and mixed: a graph or a typed refusal, never anything else."""
        choose = random.Random(5)
        refused = 0
        for case in self.cases():
            for number in range(self.damages):
                path = self._file(tmp_path, _damaged(case.content, choose), f"damaged{number}")
                found = _refusal(partial(self.read, path))
                if found is not None:
                    assert str(path) not in found.message
                    refused += 1
        assert refused, "no damage was noticed"

    def test_empty_and_missing_files_are_refused(self, tmp_path: Path) -> None:
        """With a typed error each."""
        for path in (self._file(tmp_path, b""), tmp_path / f"missing{self.suffix}"):
            assert _refusal(partial(self.read, path)) is not None, f"{path.name} was read"

    # -- inside --------------------------------------------------------------------------------------------

    def _file(self, folder: Path, content: bytes, name: str = "model") -> Path:
        path = folder / f"{name}{self.suffix}"
        path.write_bytes(content)
        return path


def _refusal(attempt: Callable[[], object]) -> PlumblineError | None:
    """The typed error that an attempt ends in, or None where it succeeds; any other error goes on."""
    try:
        attempt()
    except PlumblineError as error:
        return error
    return None


def _damaged(content: bytes, choose: random.Random) -> bytes:
    data = bytearray(content)
    match choose.randrange(3):
        case 0:
            return bytes(data[: choose.randrange(len(data))])
        case 1:
            data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)
        case _:
            start, count = choose.randrange(len(data)), choose.randrange(1, 9)
            data[start : start + count] = bytes(choose.randrange(256) for _ in range(choose.randrange(9)))
    return bytes(data)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
