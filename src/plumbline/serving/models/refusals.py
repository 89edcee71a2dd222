"""What the directory and the inference service refuse."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.errors import Recoverability, ResourceError, ValidationError

__all__ = [
    "CanaryRefused",
    "NoCanaryRuns",
    "NoVersionLoaded",
    "NoWorkerReady",
    "RevisionMismatch",
    "TooManyInputs",
    "VersionBusy",
    "VersionLoading",
    "VersionNotReady",
]


@dataclass(eq=False, kw_only=True)
class VersionNotReady(ValidationError):
    """A version is there and does not serve, and waiting alone does not change that."""

    code = "validation.version_not_ready"
    owner = "serving.models"
    http_status = 409
    template = "{model}@{version} is {state}{reason}"

    model: str
    version: str
    state: str
    reason: str = ""


@dataclass(eq=False, kw_only=True)
class NoVersionLoaded(ValidationError):
    """A request leaves the version open, and none serves or is about to."""

    code = "validation.no_version_loaded"
    owner = "serving.models"
    http_status = 409
    template = "no version of {model} is loaded: {versions}"

    model: str
    versions: str


@dataclass(eq=False, kw_only=True)
class VersionLoading(ResourceError):
    """A version is on its way to serve, or waits for its turn at a start."""

    code = "resource.version_loading"
    owner = "serving.models"
    recoverability = Recoverability.TRANSIENT
    template = "{model}@{version} is {state}; try again in {retry_after_s:g} s"

    model: str
    version: str
    state: str
    retry_after_s: float = 1.0


@dataclass(eq=False, kw_only=True)
class NoWorkerReady(ResourceError):
    """No worker takes work at the moment."""

    code = "resource.no_worker_ready"
    owner = "serving.models"
    recoverability = Recoverability.TRANSIENT
    template = "no worker takes work ({workers}); try again in {retry_after_s:g} s"

    workers: str
    retry_after_s: float = 1.0


@dataclass(eq=False, kw_only=True)
class VersionBusy(ValidationError):
    """The version is in use in a way that the wish would break."""

    code = "validation.version_busy"
    owner = "serving.models"
    http_status = 409
    template = "{model}@{version}: {reason}"

    model: str
    version: str
    reason: str


@dataclass(eq=False, kw_only=True)
class RevisionMismatch(ValidationError):
    """The repository holds another revision or content than the caller asked for."""

    code = "validation.revision_mismatch"
    owner = "serving.models"
    http_status = 409
    template = "{model}@{version} has {what} {found}, asked for was {wanted}"

    model: str
    version: str
    what: str
    found: str
    wanted: str


@dataclass(eq=False, kw_only=True)
class CanaryRefused(ValidationError):
    """A canary that cannot be started or ended."""

    code = "validation.canary"
    owner = "serving.models"
    http_status = 409
    template = "canary of {model}@{version}: {reason}"

    model: str
    version: str
    reason: str


@dataclass(eq=False, kw_only=True)
class NoCanaryRuns(ValidationError):
    """A canary is to be ended where none runs."""

    code = "validation.no_canary"
    owner = "serving.models"
    http_status = 409
    template = "no canary of {model} runs"

    model: str


@dataclass(eq=False, kw_only=True)
class TooManyInputs(ValidationError):
    """A version takes more inputs than a request may have, so it could be loaded and never called."""

    code = "validation.too_many_inputs"
    owner = "serving.models"
    template = "{version} has {inputs} inputs; a request may have {limit}"

    version: str
    inputs: int
    limit: int
