"""Which group of workers a version runs in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from plumbline.contracts.models import VersionKind
from plumbline.contracts.versions import VersionSpec
from plumbline.serving.workers.groups import (
    CLASSES,
    MODELS,
    ClassAmongModels,
    GroupNameRefused,
    group_of,
)
from plumbline.testing.worker_pools import spec


def of_kind(kind: VersionKind, **settings: Any) -> VersionSpec:
    return replace(spec(**settings), kind=kind)


def pipeline(*stages: VersionSpec, **settings: Any) -> VersionSpec:
    return replace(of_kind(VersionKind.PIPELINE, **settings), stages=stages)


def test_native_models_and_what_is_made_of_them_share_the_models_group() -> None:
    assert group_of(of_kind(VersionKind.MODEL)) == MODELS
    assert group_of(of_kind(VersionKind.TEXT)) == MODELS
    assert group_of(pipeline(of_kind(VersionKind.TEXT), of_kind(VersionKind.MODEL))) == MODELS


def test_a_python_class_has_its_own_group_wherever_it_stands() -> None:
    python = of_kind(VersionKind.PYTHON)
    assert group_of(python) == CLASSES
    assert group_of(pipeline(of_kind(VersionKind.MODEL), python)) == CLASSES
    assert group_of(pipeline(pipeline(python))) == CLASSES


def test_a_version_goes_where_its_settings_say() -> None:
    assert group_of(of_kind(VersionKind.PYTHON, group="vision-2")) == "vision-2"
    assert group_of(of_kind(VersionKind.MODEL, group=CLASSES)) == CLASSES


def test_a_class_is_refused_among_the_models() -> None:
    with pytest.raises(ClassAmongModels, match="native models alone"):
        group_of(pipeline(of_kind(VersionKind.PYTHON), group=MODELS))


@pytest.mark.parametrize("name", ["", "A", "0a", "-a", "a-", "a--b", "a/b", "a.b", "é", "a" * 33, "a\n"])
def test_a_name_that_no_group_may_have_is_refused(name: str) -> None:
    with pytest.raises(GroupNameRefused):
        group_of(of_kind(VersionKind.MODEL, group=name))
