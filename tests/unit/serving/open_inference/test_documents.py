"""Documents of `/v2`: what they say about models (L4-26)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import VersionState, VersionStatus
from plumbline.serving.open_inference.documents import ready_versions


class Directory:
    """Says what a test wants."""

    def __init__(self, *statuses: VersionStatus) -> None:
        self._statuses = statuses

    def statuses(self) -> Sequence[VersionStatus]:
        """As given."""
        return self._statuses


def status(version: str, state: VersionState = VersionState.READY, model: str = "m") -> VersionStatus:
    return VersionStatus(ref=VersionRef(model=model, version=version), state=state, since_wall_ns=0)


def test_versions_are_listed_by_number_and_names_after_them() -> None:
    models = Directory(
        *map(status, ("10", "beta", "2", "1")), status("3", VersionState.FAILED), status("4", model="n")
    )
    assert ready_versions(cast(Any, models), "m") == ["1", "2", "10", "beta"]
