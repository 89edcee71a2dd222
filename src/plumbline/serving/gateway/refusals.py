"""What the door refuses before a route is asked, and the one error that is our own bug."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.errors import ExecutionError, PolicyError, Recoverability, ResourceError, ValidationError

__all__ = [
    "BodyTooLarge",
    "BodyTooSlow",
    "BodyUnreadable",
    "Draining",
    "HeadersTooLarge",
    "HostRefused",
    "InternalFault",
    "MediaTypeRefused",
    "MethodRefused",
    "NestedTooDeep",
    "OriginListRefused",
    "OriginRefused",
    "RouteUnknown",
    "TooManyRequests",
    "VersionRefused",
]


@dataclass(eq=False, kw_only=True)
class RouteUnknown(ValidationError):
    """An address that nothing answers."""

    code = "validation.route_unknown"
    owner = "serving.gateway"
    http_status = 404
    template = "there is nothing at {path}{hint}"

    path: str
    hint: str = ""


@dataclass(eq=False, kw_only=True)
class MethodRefused(ValidationError):
    """A method that the route does not have."""

    code = "validation.method"
    owner = "serving.gateway"
    http_status = 405
    template = "{path} answers {allowed} only"

    path: str
    allowed: str


@dataclass(eq=False, kw_only=True)
class VersionRefused(ValidationError):
    """A version of the API that does not exist, asked for in `Accept`."""

    code = "validation.api_version"
    owner = "serving.gateway"
    http_status = 406
    template = "API version {asked} does not exist; there is {known}"

    asked: str
    known: str


@dataclass(eq=False, kw_only=True)
class MediaTypeRefused(ValidationError):
    """A body of a media type or content encoding that the route does not read."""

    code = "validation.media_type"
    owner = "serving.gateway"
    http_status = 415
    template = "{given} is not read here, expected {expected}"

    given: str
    expected: str


@dataclass(eq=False, kw_only=True)
class BodyTooLarge(ValidationError):
    """A body beyond the limit, as sent or after inflation."""

    code = "validation.body_too_large"
    owner = "serving.gateway"
    http_status = 413
    template = "the body is larger than {limit_bytes} bytes"

    limit_bytes: int


@dataclass(eq=False, kw_only=True)
class BodyUnreadable(ValidationError):
    """A compressed body that does not inflate, or one shorter than announced."""

    code = "validation.body_unreadable"
    owner = "serving.gateway"
    template = "the body cannot be read: {reason}"

    reason: str


@dataclass(eq=False, kw_only=True)
class BodyTooSlow(ResourceError):
    """A body that took longer to arrive than it may."""

    code = "resource.body_too_slow"
    recoverability = Recoverability.TRANSIENT
    owner = "serving.gateway"
    http_status = 408
    template = "the body did not arrive within {limit_s} s"

    limit_s: float
    retry_after_s: float = 1.0


@dataclass(eq=False, kw_only=True)
class NestedTooDeep(ValidationError):
    """A JSON document nested deeper than the limit."""

    code = "validation.nested_too_deep"
    owner = "serving.gateway"
    template = "the JSON document is nested deeper than {limit}"

    limit: int


@dataclass(eq=False, kw_only=True)
class HeadersTooLarge(ValidationError):
    """Too many headers, too many bytes of them, an overlong address, or one that is repeated."""

    code = "validation.headers"
    owner = "serving.gateway"
    http_status = 431
    template = "headers: {reason}"

    reason: str


@dataclass(eq=False, kw_only=True)
class OriginRefused(PolicyError):
    """A browser called from an origin that is not on the allow-list."""

    code = "policy.origin"
    owner = "serving.gateway"
    template = "origin {origin} is not on the allow-list"

    origin: str


@dataclass(eq=False, kw_only=True)
class OriginListRefused(ValidationError):
    """An entry of the allow-list that is not one exact origin."""

    code = "validation.allowed_origin"
    owner = "serving.gateway"
    template = "allowed origin {origin!r}: expected scheme://host[:port], without path or wildcard"

    origin: str


@dataclass(eq=False, kw_only=True)
class HostRefused(PolicyError):
    """A local gateway was addressed by a name that is not local, as a page on the web could do."""

    code = "policy.host"
    owner = "serving.gateway"
    template = "host {host} is not one that this gateway answers to"

    host: str


@dataclass(eq=False, kw_only=True)
class TooManyRequests(ResourceError):
    """More requests or request bytes in flight than the gateway holds."""

    code = "resource.gateway_full"
    recoverability = Recoverability.TRANSIENT
    owner = "serving.gateway"
    template = "the gateway holds as many {what} as it may: {limit}"

    what: str
    limit: int
    retry_after_s: float = 1.0


@dataclass(eq=False, kw_only=True)
class Draining(ResourceError):
    """The gateway is shutting down and takes nothing new."""

    code = "resource.gateway_draining"
    recoverability = Recoverability.TRANSIENT
    owner = "serving.gateway"
    template = "the gateway is shutting down"

    retry_after_s: float = 5.0


@dataclass(eq=False, kw_only=True)
class InternalFault(ExecutionError):
    """A fault of Plumbline itself. The log of the gateway has its place under the request id."""

    code = "execution.internal"
    owner = "serving.gateway"
    template = "the request failed by a fault of the server ({kind})"

    kind: str
