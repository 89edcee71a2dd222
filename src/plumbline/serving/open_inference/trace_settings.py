"""The trace extension: which requests leave their times in the trace. `TraceSettings` owns its state.

Settings are those of the protocol: `trace_level` (`OFF` or `TIMESTAMPS`), `trace_rate` (each n-th request)
and `trace_count` (how many still, -1 without end). A model has its own value or the one for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from plumbline.contracts.inference import InferenceCall, InferenceResult
from plumbline.serving.open_inference.refusals import ExtensionRefused, ParameterRefused

__all__ = ["TraceSettings", "TraceSink"]

TraceSink = Callable[[Mapping[str, Any]], None]
"""Gets one record per traced request: names and times, never contents."""

_DEFAULTS: dict[str, tuple[str, ...]] = {
    "trace_level": ("OFF",),
    "trace_rate": ("1000",),
    "trace_count": ("-1",),
}
_OTHERS = frozenset({"log_frequency", "trace_file", "trace_mode", "trace_config"})
_MOST_MODELS = 1024


class TraceSettings:
    """Owner of the trace settings and of their counters. Used on the event loop only."""

    def __init__(self, sink: TraceSink | None = None) -> None:
        self._sink = sink
        self._all: dict[str, tuple[str, ...]] = dict(_DEFAULTS)
        self._of_model: dict[str, dict[str, tuple[str, ...]]] = {}
        self._seen: dict[str, int] = {}
        self._left: dict[str, int] = {}
        self.is_on = False
        """Whether `record` must be called at all."""

    def read(self, model: str | None = None) -> dict[str, tuple[str, ...]]:
        """Settings in force, of a model or for all."""
        return {**self._all, **self._of_model.get(model or "", {})}

    def update(
        self, settings: Mapping[str, Sequence[str] | None], model: str | None = None
    ) -> dict[str, tuple[str, ...]]:
        """Change settings; None takes one back to the value for all, or to its default. Returns those in
        force.

        Raises:
            ParameterRefused: unknown setting or value.
            ExtensionRefused: tracing is asked for and no sink was given.
        """
        checked = {name: self._verify(name, value) for name, value in settings.items()}
        if model and model not in self._of_model and len(self._of_model) >= _MOST_MODELS:
            raise ParameterRefused(parameter="model", reason=f"more than {_MOST_MODELS} have settings")
        target = self._of_model.setdefault(model, {}) if model else self._all
        for name, value in checked.items():
            if value is not None:
                target[name] = value
            elif model:
                target.pop(name, None)
            else:
                target[name] = _DEFAULTS[name]
        self._seen.clear()
        self._left.clear()
        self.is_on = any(
            "TIMESTAMPS" in s.get("trace_level", ()) for s in (self._all, *self._of_model.values())
        )
        return self.read(model)

    def record(self, call: InferenceCall, result: InferenceResult) -> None:
        """Give the times of a request to the sink when the settings choose it."""
        settings = self.read(call.model)
        if self._sink is None or settings["trace_level"] != ("TIMESTAMPS",):
            return
        seen = self._seen.get(call.model, 0)
        self._seen[call.model] = seen + 1
        left = self._left.get(call.model, int(settings["trace_count"][0]))
        if seen % int(settings["trace_rate"][0]) or left == 0:
            return
        self._left[call.model] = left - 1 if left > 0 else left
        timing = result.timing
        self._sink(
            {
                "id": call.id,
                "model_name": result.served_by.model,
                "model_version": result.served_by.version,
                "timestamps": [
                    {"name": "REQUEST_START", "ns": timing.arrived_ns},
                    {"name": "QUEUE_START", "ns": timing.queued_ns},
                    {"name": "COMPUTE_START", "ns": timing.launched_ns},
                    {"name": "COMPUTE_END", "ns": timing.finished_ns},
                ],
            }
        )

    def _verify(self, name: str, value: Sequence[str] | None) -> tuple[str, ...] | None:
        if name in _OTHERS:
            raise ParameterRefused(parameter=name, reason="traces go where the operator configured them")
        if name not in _DEFAULTS:
            raise ParameterRefused(parameter=name[:64], reason="there is no such trace setting")
        if value is None:
            return None
        given = tuple(value)
        if name == "trace_level":
            if given not in (("OFF",), ("TIMESTAMPS",)):
                raise ParameterRefused(parameter=name, reason="expected OFF or TIMESTAMPS")
            if given == ("TIMESTAMPS",) and self._sink is None:
                raise ExtensionRefused(
                    extension="trace", reason="this server was started without a trace sink"
                )
            return given
        lowest = 1 if name == "trace_rate" else -1
        if len(given) != 1 or not _is_number(given[0], lowest):
            raise ParameterRefused(parameter=name, reason=f"expected one whole number from {lowest}")
        return given


def _is_number(text: str, lowest: int) -> bool:
    digits = text.removeprefix("-")
    return digits.isdecimal() and digits.isascii() and len(digits) < 16 and int(text) >= lowest
