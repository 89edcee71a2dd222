"""Names that may become folders and parts of URLs, and files that a version may hold."""

from __future__ import annotations

import re
from typing import Final

from plumbline.contracts.inference import VersionRef
from plumbline.serving.repository.refusals import CodeRefused, FileRefused, NameRefused

__all__ = ["NativeCodeWatch", "verify_file_path", "verify_ref"]

MAX_MODEL_NAME: Final = 128
MAX_VERSION_NAME: Final = 64
MAX_PATH: Final = 512
MAX_DEPTH: Final = 8

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)
_NATIVE = re.compile(r"\.(so|o|a|obj|lib|dll|dylib|exe|pyd|pyc|pyo|elf|wasm|bc|ll|s|asm)$|\.so\.[0-9.]+$")
_PYTHON = re.compile(r"\.(py|pyw|pyx|pth)$")
_MAGIC = (
    b"\x7fELF",
    b"\xfe\xed\xfa\xce",
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
)


def verify_ref(ref: VersionRef) -> VersionRef:
    """The reference itself, when both names may be used.

    Raises:
        NameRefused: naming which one.
    """
    for what, value, limit in (
        ("model", ref.model, MAX_MODEL_NAME),
        ("version", ref.version, MAX_VERSION_NAME),
    ):
        if len(value) > limit or not _NAME.fullmatch(value):
            raise NameRefused(what=what, value=ascii(value[: limit + 1]), limit=limit)
    return ref


def verify_file_path(path: str, *, allow_code: bool) -> str:
    """The path itself, when a version may hold a file of that name.

    Raises:
        FileRefused: it leaves the folder, is not portable, or names native code or compiled artifacts.
        CodeRefused: it is Python code and the repository is not trusted with code.
    """
    shown = ascii(path[:MAX_PATH])
    if not path or len(path) > MAX_PATH or not path.isprintable():
        raise FileRefused(file=shown, reason=f"a path has 1 to {MAX_PATH} printable characters")
    parts = path.split("/")
    if "\\" in path or ":" in path or any(part in ("", ".", "..") for part in parts):
        raise FileRefused(file=shown, reason="it is not a plain relative path")
    if len(parts) > MAX_DEPTH:
        raise FileRefused(file=shown, reason=f"more than {MAX_DEPTH} folders deep")
    lowered = path.lower()
    if _NATIVE.search(lowered):
        raise FileRefused(file=shown, reason="native code never comes from a repository")
    if not allow_code and _PYTHON.search(lowered):
        raise CodeRefused(file=shown)
    return path


class NativeCodeWatch:
    """Looks at the first bytes of a file that passes in chunks: native code by another name is refused."""

    def __init__(self, path: str) -> None:
        self._path, self._head = path, b""

    def see(self, chunk: bytes) -> None:
        """Look at the next chunk.

        Raises:
            FileRefused: the file begins like an executable or an object.
        """
        if len(self._head) < 4:
            self._head = (self._head + chunk[:4])[:4]
            if self._head in _MAGIC:
                reason = "its content is native code, which never comes from a repository"
                raise FileRefused(file=ascii(self._path), reason=reason)
