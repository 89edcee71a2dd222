"""The canary routes of the native API over the canaries of a directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plumbline.serving.models.directory import Directory
from plumbline.serving.models.rollout import RolloutPolicy

__all__ = ["CanaryDoor"]


class CanaryDoor:
    """`serving.api.parts.CanaryService` over the canaries of a directory."""

    def __init__(self, directory: Directory) -> None:
        self._directory, self._canaries = directory, directory.canaries

    def canary(self, model: str) -> Mapping[str, Any]:
        """The document of the canary that runs or ended last."""
        return self._document(model)

    async def set_canary(self, model: str, version: str, share: float) -> Mapping[str, Any]:
        """Start a canary; its document."""
        self._canaries.start(model, version, RolloutPolicy(share=share))
        return self._document(model)

    async def roll_back(self, model: str) -> Mapping[str, Any]:
        """End it; its document."""
        self._canaries.end(model, promote=False)
        return self._document(model)

    async def promote(self, model: str) -> Mapping[str, Any]:
        """Give it all requests; its document."""
        await self._directory.promote(model)
        return self._document(model)

    def _document(self, model: str) -> Mapping[str, Any]:
        rollout = self._canaries.rollout(model)
        if rollout is None:
            return {"model": model, "state": "none"}
        return {
            "model": model,
            "canary": rollout.canary.version,
            "base": rollout.base.version,
            "share": rollout.policy.share,
            "state": rollout.state.value,
            "reason": rollout.reason,
        }
