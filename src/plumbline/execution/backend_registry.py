"""The backends of a process, registered by hand: nothing is found by accident."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from plumbline.execution.backend import ComputeBackend
from plumbline.execution.backend_refusals import BackendConflict, BackendUnknown

__all__ = ["BackendRegistry"]


class BackendRegistry:
    """Backends by name, in the order of registration. Owns them: closing it closes them."""

    def __init__(self, backends: Iterable[ComputeBackend] = ()) -> None:
        self._backends: dict[str, ComputeBackend] = {}
        for backend in backends:
            self.register(backend)

    def register(self, backend: ComputeBackend) -> None:
        """Add a backend.

        Raises:
            BackendConflict: the name is taken.
        """
        if backend.name in self._backends:
            raise BackendConflict(backend=backend.name)
        self._backends[backend.name] = backend

    def names(self) -> tuple[str, ...]:
        """Every name, in the order of registration."""
        return tuple(self._backends)

    def get(self, name: str) -> ComputeBackend:
        """A backend by name.

        Raises:
            BackendUnknown: nothing is registered under it.
        """
        found = self._backends.get(name)
        if found is None:
            raise BackendUnknown(backend=name, known=", ".join(self._backends) or "none")
        return found

    def choose(self, preference: Iterable[str]) -> tuple[ComputeBackend, ...]:
        """The named backends, in that order. Those not named take no part in anything.

        Raises:
            BackendUnknown: nothing is registered under one of them.
        """
        return tuple(self.get(name) for name in dict.fromkeys(preference))

    def close(self) -> None:
        """Close every backend."""
        for backend in self._backends.values():
            backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
