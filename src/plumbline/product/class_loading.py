"""The Python class of a version: its file as a module of its own name, seen by nothing else.

Nothing is put on the search path and no byte code is written beside the file, so two versions of a class live
side by side and the content of a version keeps its digest. Modules beside the file are reached by relative
import (`from .words import split`).
"""

from __future__ import annotations

import itertools
import sys
import threading
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from plumbline.engine.sessions.faults import fault_text
from plumbline.engine.sessions.forks import call_in_this_process
from plumbline.errors import ArtifactError, PlumblineError

__all__ = ["ClassUnloadable", "LoadedClass", "load_class"]

PREFIX = "plumbline_version_code_"
_numbers = itertools.count()
_lock = threading.Lock()
"""Whether byte code is written is a setting of the process."""


@dataclass(eq=False, kw_only=True)
class ClassUnloadable(ArtifactError):
    """The class of a version cannot be made from its file."""

    code = "artifact.python_class"
    owner = "product"
    template = "version {version!r}, entry {entry!r}: {reason}"

    version: str
    entry: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedClass:
    """A class and the name of its module, which stays known until `forget`."""

    cls: type
    module: str

    def forget(self) -> None:
        """Take the module and what it imported relatively out of the table of modules."""
        for name in [n for n in sys.modules if n == self.module or n.startswith(f"{self.module}.")]:
            sys.modules.pop(name, None)


def load_class(folder: Path, entry: str, *, version: str) -> LoadedClass:
    """Run the file of an entry `FILE.py:CLASS` and take the class out of it.

    Args:
        folder: of the version.
        entry: names a file directly in the folder, and a class in it.
        version: for messages.

    Raises:
        ClassUnloadable: there is no such file or class, or the file raises. The cause is chained.
    """
    file_name, _, class_name = entry.partition(":")
    path = folder / file_name
    plain = Path(file_name).name == file_name and file_name.endswith(".py")
    if not plain or path.is_symlink() or not path.is_file():
        reason = f"there is no file {file_name[:80]!r} in its folder"
        raise ClassUnloadable(version=version, entry=entry[:120], reason=reason)
    name = f"{PREFIX}{next(_numbers)}"
    spec = spec_from_file_location(name, path, submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise ClassUnloadable(version=version, entry=entry[:120], reason="it is no Python source")
    module = module_from_spec(spec)
    loaded = LoadedClass(cls=object, module=name)
    try:
        call_in_this_process(lambda: _run(module, spec))
    except BaseException as error:  # a stranger's file: what it raises fails this version alone
        loaded.forget()
        if isinstance(error, PlumblineError):
            raise
        reason = f"running the file raised {fault_text(error, (folder,))}"
        raise ClassUnloadable(version=version, entry=entry[:120], reason=reason) from error
    cls = getattr(module, class_name, None)
    if not isinstance(cls, type):
        loaded.forget()
        reason = f"the file has no class {class_name[:80]!r}"
        raise ClassUnloadable(version=version, entry=entry[:120], reason=reason)
    return LoadedClass(cls=cls, module=name)


def _run(module: ModuleType, spec: ModuleSpec) -> None:
    with _lock:
        written = sys.dont_write_bytecode
        sys.dont_write_bytecode = True
        sys.modules[spec.name] = module
        try:
            if spec.loader is not None:
                spec.loader.exec_module(module)
        finally:
            sys.dont_write_bytecode = written
