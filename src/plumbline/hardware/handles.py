"""Owned handles: closed exactly once, counted while alive, refused after close and after a fork.

Every device object (stream, event, buffer, pool, mapping) is an `OwnedHandle` of one `HandleRegistry`. The
registry only counts and reports; it never frees anything on behalf of an owner that forgot to.
"""

from __future__ import annotations

import itertools
import os
import threading
import warnings
import weakref
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, Self

from plumbline.errors import BackendError, PlumblineError, ValidationError


@dataclass(eq=False, kw_only=True)
class HandleClosedError(ValidationError):
    """A handle was used after it was closed."""

    code = "validation.handle_closed"
    owner = "hardware"
    template = "the {kind} {label!r} was used after it was closed"

    kind: str
    label: str


@dataclass(eq=False, kw_only=True)
class HandleForkedError(BackendError):
    """A handle that was opened in the parent process was used in a forked child."""

    code = "backend.handle_forked"
    owner = "hardware"
    template = (
        "the {kind} {label!r} belongs to process {owner_pid} and cannot be used in its forked child; "
        "open a device in the child"
    )

    kind: str
    label: str
    owner_pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HandleRecord:
    """What the registry knows of one live handle."""

    token: int
    kind: str
    label: str


class HandleRegistry:
    """Counts the live handles of one device. Owns the table of records; frees nothing."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._tokens = itertools.count(1)
        self._live: dict[int, HandleRecord] = {}
        self._handles: weakref.WeakValueDictionary[int, OwnedHandle] = weakref.WeakValueDictionary()
        self._leaked: list[HandleRecord] = []
        self.owner_pid = os.getpid()

    @property
    def live(self) -> int:
        """Number of handles that were opened and not closed, leaked ones included."""
        return len(self._live)

    @property
    def leaked(self) -> tuple[HandleRecord, ...]:
        """Handles that the garbage collector found unclosed, oldest first."""
        with self._lock:
            return tuple(self._leaked)

    def live_by_kind(self) -> dict[str, int]:
        """Live handles counted by kind, for example `{"stream": 1}`."""
        with self._lock:
            return dict(Counter(record.kind for record in self._live.values()))

    def enter(self, handle: OwnedHandle, kind: str, label: str) -> int:
        """Count a new handle and return the token that `leave` takes."""
        record = HandleRecord(token=next(self._tokens), kind=kind, label=label)
        with self._lock:
            self._live[record.token] = record
            self._handles[record.token] = handle
        weakref.finalize(handle, self._report_if_live, record.token).atexit = False
        return record.token

    def leave(self, token: int) -> None:
        """Stop counting a handle that its owner closed."""
        with self._lock:
            self._live.pop(token, None)

    def close_all(self, *kinds: str) -> None:
        """Close every open handle of the given kinds, kind by kind, youngest first.

        Every handle is closed even if closing one fails; the first failure is raised afterwards.
        """
        failures: list[PlumblineError] = []
        for kind in kinds:
            for handle in self._open_handles(kind):
                try:
                    handle.close()
                except PlumblineError as error:
                    failures.append(error)
        if failures:
            raise failures[0]

    def _open_handles(self, kind: str) -> list[OwnedHandle]:
        with self._lock:
            tokens = [token for token, record in self._live.items() if record.kind == kind]
            handles = [self._handles.get(token) for token in reversed(tokens)]
        return [handle for handle in handles if handle is not None]

    def _report_if_live(self, token: int) -> None:
        record = self._live.get(token)
        if record is None or os.getpid() != self.owner_pid:
            return
        self._leaked.append(record)
        warnings.warn(f"{record.kind} {record.label!r} was never closed", ResourceWarning, stacklevel=2)


class OwnedHandle(ABC):
    """A native resource with one owner: use it in a `with` block or call `close` once."""

    kind: ClassVar[str] = "handle"

    def __init__(self, *, registry: HandleRegistry, label: str) -> None:
        self.label = label
        self._registry = registry
        self._closed = False
        self._token = registry.enter(self, self.kind, label)

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._closed

    def verify_open(self) -> None:
        """Raise unless this handle may be used here and now.

        Raises:
            HandleClosedError: it was closed.
            HandleForkedError: this process is a forked child of the one that opened it.
        """
        if self._closed:
            raise HandleClosedError(kind=self.kind, label=self.label)
        if os.getpid() != self._registry.owner_pid:
            owner_pid = self._registry.owner_pid
            raise HandleForkedError(kind=self.kind, label=self.label, owner_pid=owner_pid)

    def close(self) -> None:
        """Give the resource back. A second call does nothing; in a forked child no native call is made."""
        if self._closed:
            return
        self._closed = True
        self._registry.leave(self._token)
        if os.getpid() == self._registry.owner_pid:
            self._release()

    @abstractmethod
    def _release(self) -> None:
        """Make the native calls that free the resource; called at most once, in the owning process."""

    def __enter__(self) -> Self:
        self.verify_open()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
