"""Search by meaning: passages as vectors of length one, questions by the angle between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from plumbline.engine.encoder import TextEncoder
from plumbline.product.demo.docstrings import Passage

__all__ = ["Hit", "SearchIndex"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A passage with the cosine between it and the question."""

    passage: Passage
    score: float


class SearchIndex:
    """Vectors of passages.

    Args:
        model: an encoder whose vectors are normalised.
        passages: what can be found.
        progress: called with the number of passages done and of all.
    """

    def __init__(
        self, model: TextEncoder, passages: Sequence[Passage], progress: Callable[[int, int], None]
    ) -> None:
        self._model, self._passages = model, tuple(passages)
        encoding = model.encode_reported([p.embedded_text for p in passages], progress=progress)
        self.vectors = encoding.embeddings
        self.tokens = sum(encoding.token_counts)
        self.truncated = len(encoding.truncated)

    def find(self, question: str, count: int = 3) -> tuple[Hit, ...]:
        """The passages nearest to a question, best first."""
        scores = self.vectors @ self._model.encode([question])[0]
        best = np.argsort(-scores, kind="stable")[:count]
        return tuple(Hit(passage=self._passages[i], score=float(scores[i])) for i in best)
