"""`AIModelAdapter`: a model as something that turns a prompt into text (requirements L3-17, L3-18)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from plumbline.contracts.models import ModelMetadata

__all__ = ["AIModelAdapter", "ModelInfo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """Which model answers.

    Attributes:
        name: in its repository.
        version: that would answer now.
        kind: what it is made of.
        digest: SHA-256 of its content; empty where the adapter has none.
        memory_bytes: that it takes by plan; None where nobody stated any.
    """

    name: str
    version: str
    kind: str
    digest: str = ""
    memory_bytes: int | None = None

    @classmethod
    def of(cls, metadata: ModelMetadata) -> ModelInfo:
        """The info of a served version."""
        return cls(
            name=metadata.ref.model,
            version=metadata.ref.version,
            kind=metadata.kind.value,
            digest=metadata.digest,
            memory_bytes=metadata.stated_memory_bytes,
        )

    def document(self) -> dict[str, Any]:
        """JSON-ready."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class AIModelAdapter(Protocol):
    """Text in, text out, whatever is behind it."""

    async def generate(self, prompt: str, parameters: Mapping[str, Any] | None = None) -> str:
        """The answer to a prompt.

        Args:
            prompt: any text, the empty one too.
            parameters: what the model behind reads; plain JSON values.

        Raises:
            PlumblineError: the one typed outcome of a call that got no text.
        """

    def get_model_info(self) -> ModelInfo:
        """Which model would answer now. Raises: none is ready."""
