"""A list of models asks for the versions once, however many there are (X-33)."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import VersionState, VersionStatus
from plumbline.serving.api.routes.models import list_models


class Counted:
    """A directory that counts how often it is asked for everything."""

    def __init__(self, models: int, versions: int) -> None:
        self.asked = 0
        self._known = [
            VersionStatus(ref=VersionRef(model=f"m{m}", version=str(v)), state=VersionState.FOUND)
            for m in range(models)
            for v in range(versions)
        ]

    def statuses(self) -> list[VersionStatus]:
        self.asked += 1
        return self._known

    def is_ready(self, model: str) -> bool:
        return False


def test_a_list_of_many_models_asks_for_their_versions_once() -> None:
    """A question for each model held up every inference for seconds at 800 versions."""
    directory = Counted(models=40, versions=3)
    listed = asyncio.run(list_models(cast(Any, SimpleNamespace(models=directory)), cast(Any, None)))
    assert directory.asked == 1
    assert [model.name for model in listed.models] == sorted(f"m{m}" for m in range(40))
    assert [version.version for version in listed.models[0].versions] == ["0", "1", "2"]
