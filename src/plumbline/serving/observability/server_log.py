"""`ServerLog`: what happened at this server, one line each, as text or JSON; never a payload.

Lines are written on a thread of their own: a reader that stalls costs lines, which are counted, and no time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TextIO

from plumbline.contracts.clock import Clock
from plumbline.contracts.inference import InferenceCall, InferenceResult
from plumbline.contracts.requests import TenantId
from plumbline.errors import PlumblineError
from plumbline.serving.observability.background import BackgroundQueue

__all__ = ["Level", "LogFormat", "LogFull", "ServerLog", "SlowRequests"]

_MAX_TEXT = 500
_QUIET = frozenset({"trace_id", "claims"})


class LogFull(Exception):
    """No more lines are written; they are counted."""


class LogFormat(StrEnum):
    """How a line looks."""

    TEXT = "text"
    JSON = "json"


class Level(StrEnum):
    """How much it matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


_LEVELS = {
    "worker.lost": Level.ERROR,
    "worker.stalled": Level.ERROR,
    "worker.replaced": Level.WARNING,
    "model.failed": Level.ERROR,
    "model.note": Level.WARNING,
    "canary.rolled_back": Level.WARNING,
    "workers.scale_failed": Level.WARNING,
    "task.failed": Level.WARNING,
    "task.stalled": Level.WARNING,
}


class ServerLog:
    """Owner of one stream of lines. `write` may be called from any thread and never waits.

    Args:
        stream: where lines go; it stays open.
        form: of the lines.
        clock: stamps them.
        facts: what every JSON line says, such as the id of the run.
        limit_bytes: most that is written; lines beyond are counted as failed. None for no limit.
    """

    def __init__(
        self,
        stream: TextIO,
        form: LogFormat,
        clock: Clock,
        facts: Mapping[str, str] | None = None,
        *,
        limit_bytes: int | None = None,
    ) -> None:
        self._stream, self._clock, self._facts = stream, clock, dict(facts or {})
        self._room, self._is_for_people = limit_bytes, form is LogFormat.TEXT
        self._line: Callable[[_Entry], str] = self._json if form is LogFormat.JSON else _text
        self._queue: BackgroundQueue[_Entry] = BackgroundQueue(
            self._write, name="server log", limit=2048, interval_s=1.0
        )

    def write(self, event: str, subject: str = "", *, level: Level = Level.INFO, **fields: Any) -> None:
        """One line: dotted event, whom it is about, names and numbers."""
        self._queue.offer((self._clock.wall_ns(), level, event, subject, fields), now=True)

    def happened(self, kind: str, subject: str, tenant: TenantId | None, fields: Mapping[str, Any]) -> None:
        """A watcher of events. Tasks are told of when they end badly; whose they are is not told. People get
        what they may have to act on, programs everything.
        """
        level = _LEVELS.get(kind, Level.INFO)
        if level is Level.INFO and (self._is_for_people or kind.startswith("task.")):
            return
        self.write(kind, subject, level=level, **{k: v for k, v in fields.items() if k not in _QUIET})

    def counts(self) -> Mapping[str, int]:
        """Lines by what became of them."""
        queue = self._queue
        return {"done": queue.done, "failed": queue.failed, "dropped": queue.dropped}

    def close(self, timeout_s: float) -> None:
        """Write what waits, within the time."""
        self._queue.close(timeout_s)

    def _write(self, entries: Sequence[_Entry]) -> None:
        text = "".join(self._line(entry) + "\n" for entry in entries)
        if self._room is not None:
            if len(text) > self._room:
                raise LogFull
            self._room -= len(text)
        self._stream.write(text)
        self._stream.flush()

    def _json(self, entry: _Entry) -> str:
        wall_ns, level, event, subject, fields = entry
        document = {"time": _stamp(wall_ns), "level": level.value, "event": event, **self._facts}
        if subject:
            document["subject"] = subject
        return json.dumps({**document, **{k: _plain(v) for k, v in fields.items()}}, separators=(",", ":"))


_Entry = tuple[int, Level, str, str, Mapping[str, Any]]


class SlowRequests:
    """An observer of requests: one line for each that took longer than a bound, at most `burst` a second.

    Args:
        log: gets the lines.
        bound_ns: from arrival to outcome.
        burst: lines a second; how many more there were is on the next line.
    """

    def __init__(self, log: ServerLog, bound_ns: int, burst: int = 10) -> None:
        self._log, self._bound_ns, self._burst = log, bound_ns, burst
        self._second = self._told = self._untold = 0

    def __call__(
        self, call: InferenceCall, outcome: InferenceResult | PlumblineError | None, now_ns: int
    ) -> None:
        """A request has its outcome."""
        if not call.arrived_ns or now_ns - call.arrived_ns < self._bound_ns:
            return
        second = now_ns // 1_000_000_000
        if second != self._second:
            self._second, self._told = second, 0
        if self._told >= self._burst:
            self._untold += 1
            return
        self._told += 1
        fields: dict[str, Any] = {"ms": round((now_ns - call.arrived_ns) / 1e6, 3), "protocol": call.protocol}
        if isinstance(outcome, InferenceResult):
            timing = outcome.timing
            fields |= {"served_by": str(outcome.served_by), "worker": timing.worker}
            if timing.queued_ns and timing.launched_ns:
                fields["queue_ms"] = round((timing.launched_ns - timing.queued_ns) / 1e6, 3)
                fields["launch_ms"] = round((timing.finished_ns - timing.launched_ns) / 1e6, 3)
        else:
            fields["outcome"] = "abandoned" if outcome is None else outcome.code
        if self._untold:
            fields["untold"], self._untold = self._untold, 0
        self._log.write("request.slow", call.id, level=Level.WARNING, **fields)


def _text(entry: _Entry) -> str:
    wall_ns, level, event, subject, fields = entry
    said = " ".join(f"{name}={_plain(value)}" for name, value in fields.items() if value != "")
    words = (_stamp(wall_ns), level.value, event, subject, said)
    return " ".join(ascii(word)[1:-1] if not word.isprintable() else word for word in words if word)


def _stamp(wall_ns: int) -> str:
    seconds, rest = divmod(wall_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 1_000_000:03d}Z"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)[:_MAX_TEXT]
