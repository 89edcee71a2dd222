"""`OtlpSpanExporter`: spans over HTTP in the OpenTelemetry protocol, through its own exporter."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from plumbline.errors import ValidationError
from plumbline.serving.observability.spans import Span
from plumbline.serving.observability.tracing import SpansNotExported

__all__ = ["OtlpEndpointRefused", "OtlpSpanExporter"]

_TIMEOUT_S = 5.0
_PATH = "/v1/traces"
_NO_STATUS = Status()


@dataclass(eq=False, kw_only=True)
class OtlpEndpointRefused(ValidationError):
    """The address for spans is not one."""

    code = "validation.otlp_endpoint"
    owner = "serving.observability"
    template = "OTLP endpoint: expected http://HOST:PORT or https://HOST:PORT, with a path or without"


class OtlpSpanExporter:
    """Implements `SpanExporter`.

    Args:
        endpoint: address; without a path, `/v1/traces` is added.
        resource: attributes of the server, such as `service.name`.
        timeout_s: of one export, with its repetitions.

    Raises:
        OtlpEndpointRefused: it is no address of HTTP.
    """

    def __init__(self, endpoint: str, resource: Mapping[str, str], *, timeout_s: float = _TIMEOUT_S) -> None:
        log = logging.getLogger("opentelemetry")  # its words may quote an answer; failures are counted here
        log.addHandler(logging.NullHandler())
        log.propagate = False
        self._resource = Resource(dict(resource))
        self._scope = InstrumentationScope("plumbline", resource.get("service.version"))
        self._exporter = OTLPSpanExporter(endpoint=_address(endpoint), timeout=timeout_s)

    def export(self, spans: Sequence[Span]) -> None:
        """Send them.

        Raises:
            SpansNotExported: nobody took them within the time.
        """
        if self._exporter.export([self._readable(span) for span in spans]) is not SpanExportResult.SUCCESS:
            raise SpansNotExported

    def close(self) -> None:
        """Break off the repetitions of an export."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _readable(self, span: Span) -> ReadableSpan:
        return ReadableSpan(
            name=span.name,
            context=_context(span.trace_id, span.span_id, is_remote=False),
            parent=_context(span.trace_id, span.parent_id, is_remote=span.is_root)
            if span.parent_id
            else None,
            resource=self._resource,
            attributes=span.attributes,
            kind=SpanKind.SERVER if span.is_root else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, span.error) if span.error else _NO_STATUS,
            start_time=span.begin_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )


def _context(trace_id: int, span_id: int, *, is_remote: bool) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote, TraceFlags(TraceFlags.SAMPLED))


def _address(endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise OtlpEndpointRefused()
    return endpoint if parts.path not in ("", "/") else endpoint.rstrip("/") + _PATH
