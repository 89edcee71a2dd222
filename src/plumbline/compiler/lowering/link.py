"""Object code into something callable: a shared library by the system's linker, or LLVM's own loader."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from plumbline.execution.code import CodeLoadFailed

__all__ = ["JitLibrary", "find_linker", "link_shared"]

LINK_TIMEOUT_S = 60.0
_lock = threading.Lock()


def find_linker() -> str | None:
    """Path of a linker that makes shared libraries, or None."""
    return shutil.which("ld.lld") or shutil.which("ld")


def link_shared(code: Path, library: Path, linker: str) -> bool:
    """Link `code` into the shared library `library`. Returns False where the linker refuses."""
    arguments = [linker, "-shared", "-o", str(library), str(code)]
    if sys.platform == "darwin":
        arguments = [linker, "-dylib", "-undefined", "dynamic_lookup", "-o", str(library), str(code)]
    else:
        arguments[2:2] = ["-z", "now", "--hash-style=gnu", *_needed_libraries()]
    try:
        done = subprocess.run(arguments, capture_output=True, timeout=LINK_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and library.is_file()


def _needed_libraries() -> list[str]:
    """Paths of the C and mathematics libraries of this process, so that the result names what it needs."""
    wanted = ("libm.so", "libc.so")
    try:
        maps = Path("/proc/self/maps").read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    paths = {line.split()[-1] for line in maps.splitlines() if line.split()[-1].startswith("/")}
    return sorted(p for p in paths if Path(p).name.startswith(wanted))


class JitLibrary:
    """Object code loaded by LLVM, for machines without a linker."""

    def __init__(self, code: bytes, artifact: str) -> None:
        self._artifact = artifact
        with _lock:
            llvm.initialize_native_target()
            llvm.initialize_native_asmprinter()
            machine = llvm.Target.from_default_triple().create_target_machine(
                opt=2, reloc="pic", codemodel="small"
            )
            self._engine: Any = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
            try:
                self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
                self._engine.finalize_object()
            except RuntimeError as error:
                raise CodeLoadFailed(artifact=artifact, reason="LLVM's loader refused it") from error

    def address(self, symbol: str) -> int:
        """Address of an exported function."""
        found = int(self._engine.get_function_address(symbol))
        if found == 0:
            raise CodeLoadFailed(artifact=self._artifact, reason=f"symbol {symbol} is missing")
        return found
