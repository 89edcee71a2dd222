"""The suite that every `AIModelAdapter` passes, and the smallest adapter."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from plumbline.contracts.adapters import AIModelAdapter, ModelInfo

__all__ = ["AdapterConformance", "EchoAdapter"]


class EchoAdapter:
    """Answers with the prompt."""

    async def generate(self, prompt: str, parameters: Mapping[str, Any] | None = None) -> str:
        """The prompt itself."""
        return prompt

    def get_model_info(self) -> ModelInfo:
        """A name without content."""
        return ModelInfo(name="echo", version="1", kind="python")


class AdapterConformance:
    """Inherit it, and give an adapter."""

    @abstractmethod
    def make_adapter(self) -> AIModelAdapter:
        """An adapter that answers with a text made of the prompt."""

    def test_a_prompt_gets_a_text(self) -> None:
        """L3-17."""
        answer = asyncio.run(self.make_adapter().generate("open a file"))
        assert isinstance(answer, str)
        assert answer

    def test_equal_prompts_get_equal_texts(self) -> None:
        """L3-17: nothing here draws lots."""
        adapter = self.make_adapter()

        async def both() -> tuple[str, str]:
            return await adapter.generate("ä \U0001f600"), await adapter.generate("ä \U0001f600")

        first, second = asyncio.run(both())
        assert first == second

    def test_prompts_at_once_get_their_own_texts(self) -> None:
        """L3-17: many callers, one adapter."""
        adapter = self.make_adapter()

        async def many() -> list[str]:
            return await asyncio.gather(*(adapter.generate(f"prompt {number}") for number in range(16)))

        async def alone(number: int) -> str:
            return await adapter.generate(f"prompt {number}")

        together = asyncio.run(many())
        assert together == [asyncio.run(alone(number)) for number in range(16)]

    def test_the_info_names_the_model_and_is_plain_json(self) -> None:
        """L3-18."""
        document = self.make_adapter().get_model_info().document()
        assert document.keys() == {"name", "version", "kind", "digest", "memory_bytes"}
        assert document["name"]
        assert all(isinstance(value, str | int | None) for value in document.values())
