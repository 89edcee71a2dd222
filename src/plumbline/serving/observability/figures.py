"""`ServingFigures`: what happened to requests, counted on the event loop where it happens.

On the way of every request: a few dictionary look-ups and additions, no lock, no allocation that lasts.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping

from plumbline.contracts.inference import InferenceCall, InferenceResult
from plumbline.contracts.records import Routing
from plumbline.errors import PlumblineError
from plumbline.serving.observability.histogram import COUNT_BOUNDS, Histogram

__all__ = ["MAX_ERROR_SERIES", "ProtocolFigures", "ServingFigures", "VersionFigures"]

MAX_ERROR_SERIES = 1000
"""Most combinations of labels that errors are counted under; what is beyond is counted as `other`."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "GRPC"})
_CODE = re.compile(r"[a-z0-9_.]{1,80}")
_OTHER = "other"


class VersionFigures:
    """Of the answered requests of one version: nanoseconds of each part of the way, and launch sizes."""

    __slots__ = ("arrival", "launch", "queue", "sizes")

    def __init__(self) -> None:
        self.arrival, self.queue, self.launch = Histogram(), Histogram(), Histogram()
        self.sizes = Histogram(COUNT_BOUNDS)


class ProtocolFigures:
    """Of one version over one protocol: nanoseconds from arrival to the result."""

    __slots__ = ("duration", "version")

    def __init__(self, version: VersionFigures) -> None:
        self.version, self.duration = version, Histogram()


class ServingFigures:
    """Owner of all counts of a gateway. Used on its event loop alone.

    Attributes:
        protocols: (model, version, protocol) -> figures.
        versions: (model, version) -> figures.
        arrived, abandoned: by protocol; an abandoned request's caller stopped waiting.
        errors: by (model, protocol, class, code); the model is empty where the directory knows none of that
            name, so a client cannot make labels.
        routes: by (model, reason).
        events: by kind.
        answers: by (route, method, status); `routes_ns` has their durations by route.
        subscribers_dropped: that fell behind.
        tasks: by state, as last sampled; None before the first sample or after one that failed.

    Args:
        is_known: whether the directory has a model of this name.
    """

    def __init__(self, is_known: Callable[[str], bool] = lambda model: True) -> None:
        self.is_known = is_known
        self.protocols: dict[tuple[str, str, str], ProtocolFigures] = {}
        self.versions: dict[tuple[str, str], VersionFigures] = {}
        self.arrived: Counter[str] = Counter()
        self.abandoned: Counter[str] = Counter()
        self.errors: Counter[tuple[str, str, str, str]] = Counter()
        self.routes: Counter[tuple[str, str]] = Counter()
        self.events: Counter[str] = Counter()
        self.answers: Counter[tuple[str, str, int]] = Counter()
        self.routes_ns: dict[str, Histogram] = {}
        self.subscribers_dropped = 0
        self._events_lock = threading.Lock()
        self.tasks: Mapping[str, int] | None = None

    def answered(self, call: InferenceCall, result: InferenceResult, answered_ns: int) -> None:
        """A request got its result. A part of the way whose times are not known is not counted."""
        ref, timing = result.served_by, result.timing
        figures = self.protocols.get((ref.model, ref.version, call.protocol))
        if figures is None:
            figures = self._open(ref.model, ref.version, call.protocol)
        if call.arrived_ns:
            figures.duration.observe(answered_ns - call.arrived_ns)
        version, queued_ns, launched_ns = figures.version, timing.queued_ns, timing.launched_ns
        if result.cached or not launched_ns:
            return
        if queued_ns:
            version.queue.observe(launched_ns - queued_ns)
            if call.arrived_ns:
                version.arrival.observe(queued_ns - call.arrived_ns)
        version.launch.observe(timing.finished_ns - launched_ns)
        version.sizes.observe(timing.batched)

    def failed(self, call: InferenceCall, error: PlumblineError) -> None:
        """A request got its error."""
        model = call.model if self.is_known(call.model) else ""
        code = error.code if _CODE.fullmatch(error.code) else _OTHER
        key = (model, call.protocol, error.error_class.value, code)
        if key not in self.errors and len(self.errors) >= MAX_ERROR_SERIES:
            key = ("", call.protocol, error.error_class.value, _OTHER)
        self.errors[key] += 1

    def routed(self, record: Routing) -> None:
        """A route was decided. Only models of the directory get so far."""
        self.routes[record.model, record.reason] += 1

    def happened(self, kind: str) -> None:
        """An event was published, on whatever thread."""
        with self._events_lock:
            self.events[kind] += 1

    def subscriber_dropped(self) -> None:
        """A subscriber fell too far behind."""
        self.subscribers_dropped += 1

    def door_answered(self, route: str, method: str, status: int, duration_ns: int) -> None:
        """An HTTP or gRPC answer left; `route` is a template."""
        self.answers[route, method if method in _METHODS else _OTHER, status] += 1
        histogram = self.routes_ns.get(route)
        if histogram is None:
            histogram = self.routes_ns[route] = Histogram()
        histogram.observe(duration_ns)

    def forget_all_but(self, known: Collection[tuple[str, str]]) -> None:
        """Drop series of versions that the directory has forgotten."""
        models = {model for model, _ in known}
        for version in [key for key in self.versions if key not in known]:
            del self.versions[version]
        for protocol in [key for key in self.protocols if key[:2] not in known]:
            del self.protocols[protocol]
        for route in [key for key in self.routes if key[0] not in models]:
            del self.routes[route]
        for error in [key for key in self.errors if key[0] and key[0] not in models]:
            del self.errors[error]

    def _open(self, model: str, version: str, protocol: str) -> ProtocolFigures:
        shared = self.versions.setdefault((model, version), VersionFigures())
        return self.protocols.setdefault((model, version, protocol), ProtocolFigures(shared))
