"""Which group of workers a version runs in. Pure.

Versions of one group share a process and its fate. Native models share `models`; everything with a Python
class in it shares `classes`; `group` in version.toml names another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from plumbline.contracts.models import VersionKind
from plumbline.contracts.versions import VersionSpec
from plumbline.errors import ResourceError, ValidationError

__all__ = [
    "CLASSES",
    "MAX_GROUPS",
    "MODELS",
    "ClassAmongModels",
    "GroupNameRefused",
    "GroupsExhausted",
    "group_of",
    "holds_class",
    "verify_group_name",
]

MODELS = "models"
"""Group of native models, whose number of workers is scaled. Its places are `w0`, `w1`, ..."""

CLASSES = "classes"
"""Group of versions with a Python class in them, unless they name another. Its place is `classes-w0`."""

MAX_GROUPS = 16
"""Groups with a worker at one time."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_MAX_NAME = 32


@dataclass(eq=False, kw_only=True)
class GroupNameRefused(ValidationError):
    """A version names a group as none may be called."""

    code = "validation.workers_group_name"
    owner = "serving.workers"
    template = (
        "version {version}, group {group!r}: 1 to 32 of a-z, 0-9 and single hyphens, and a letter first"
    )

    version: str
    group: str


@dataclass(eq=False, kw_only=True)
class ClassAmongModels(ValidationError):
    """A version with a Python class names the group of the native models, whose calls it could take along."""

    code = "validation.workers_class_among_models"
    owner = "serving.workers"
    template = "version {version} holds a Python class, and group {group!r} is for native models alone"

    version: str
    group: str


@dataclass(eq=False, kw_only=True)
class GroupsExhausted(ResourceError):
    """A version asks for one more group than there may be."""

    code = "resource.workers_groups"
    owner = "serving.workers"
    template = "version {version} wants group {group!r}; there are {limit} already: {groups}"

    version: str
    group: str
    limit: int
    groups: str


def group_of(spec: VersionSpec) -> str:
    """The group of a version.

    Raises:
        GroupNameRefused, ClassAmongModels: its settings name one that it cannot have.
    """
    named = spec.settings.group
    if named is None:
        return CLASSES if holds_class(spec) else MODELS
    if not verify_group_name(named):
        raise GroupNameRefused(version=str(spec.ref), group=named[: 2 * _MAX_NAME])
    if named == MODELS and holds_class(spec):
        raise ClassAmongModels(version=str(spec.ref), group=named)
    return named


def verify_group_name(name: str) -> bool:
    """Whether a group may be called so.

    >>> verify_group_name("vision-2"), verify_group_name("w/0")
    (True, False)
    """
    return len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None


def holds_class(spec: VersionSpec) -> bool:
    """Whether it is a Python class, or a pipeline with one in it."""
    return spec.kind is VersionKind.PYTHON or any(holds_class(stage) for stage in spec.stages)
