"""Native code in this process: looked up by symbol, from a shared library or from another loader."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from plumbline.errors import BackendError
from plumbline.hardware.lane import LaneCode

__all__ = ["CodeLibrary", "CodeLoadFailed", "SharedLibrary", "lane_code"]


@dataclass(eq=False, kw_only=True)
class CodeLoadFailed(BackendError):
    """Native code cannot be loaded, or lacks an entry point."""

    code = "backend.code_load"
    owner = "execution"
    template = "native code of {artifact!r} cannot be loaded: {reason}"

    artifact: str
    reason: str


class CodeLibrary(Protocol):
    """Loaded native code. It stays loaded while the object lives."""

    def address(self, symbol: str) -> int:
        """Address of an exported function.

        Raises:
            CodeLoadFailed: there is no such symbol.
        """
        ...


class SharedLibrary:
    """Code from a shared library, through the system's loader."""

    def __init__(self, path: Path) -> None:
        self._name = path.parent.name
        try:
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            raise CodeLoadFailed(artifact=self._name, reason="the system loader refused it") from error

    def address(self, symbol: str) -> int:
        """Address of an exported function."""
        try:
            function = getattr(self._library, symbol)
        except AttributeError as error:
            raise CodeLoadFailed(artifact=self._name, reason=f"symbol {symbol} is missing") from error
        return ctypes.cast(function, ctypes.c_void_p).value or 0


def lane_code(library: CodeLibrary) -> LaneCode:
    """The thread runtime that every executable brings along."""
    return LaneCode(
        worker=library.address("plumb_worker"),
        launch=library.address("plumb_launch"),
        run=library.address("plumb_run"),
        stop=library.address("plumb_stop"),
        quiesce=library.address("plumb_quiesce"),
        library=library,
    )
