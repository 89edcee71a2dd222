"""`TextEncoder`: texts in, one vector for each out, packed on one token axis without padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from plumbline.engine.model import InputRefused, Model
from plumbline.engine.tokenization import TextRefused, TextSettings, TextTokenizer, TokenizedTexts
from plumbline.execution.artifact import Manifest
from plumbline.execution.code import CodeLibrary
from plumbline.hardware.cpu import CpuDevice

__all__ = ["Encoding", "Pack", "TextEncoder", "pack_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """Vectors with what is worth knowing about how they came about.

    Attributes:
        embeddings: float32 `[texts, width]`.
        token_counts: tokens of each text after truncation, special tokens included.
        truncated: positions of the texts that were longer than the model takes; their end was dropped.
        runs: how many times the model ran.
    """

    embeddings: np.ndarray
    token_counts: tuple[int, ...]
    truncated: tuple[int, ...]
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Consecutive texts `[begin, end)` that share a run."""

    begin: int
    end: int


def pack_rows(lengths: Sequence[int], max_tokens: int, max_rows: int) -> Iterator[Pack]:
    """Cut a list of rows into runs that fit both bounds, in order; each row must fit alone.

    >>> [(p.begin, p.end) for p in pack_rows([3, 4, 2, 6], 8, 2)]
    [(0, 2), (2, 4)]
    """
    begin, tokens = 0, 0
    for position, length in enumerate(lengths):
        if position > begin and (tokens + length > max_tokens or position - begin == max_rows):
            yield Pack(begin=begin, end=position)
            begin, tokens = position, 0
        tokens += length
    if begin < len(lengths):
        yield Pack(begin=begin, end=len(lengths))


class TextEncoder(Model):
    """A model with inputs `token_ids` and `row_offsets`, output `embeddings`, and a tokenizer.

    Args:
        manifest: of the executable.
        weights: mapped weights, as bytes.
        library: its native code.
        device: where streams are opened.
        contexts: arenas to make now.
        folder: of the executable.
        on_close: called once, when the model is closed.
        streams: streams that the segments of one context may use.
        text: how texts become tokens.
    """

    def __init__(
        self,
        manifest: Manifest,
        weights: np.ndarray,
        library: CodeLibrary,
        device: CpuDevice,
        contexts: int = 1,
        folder: Path | None = None,
        on_close: Callable[[], None] = lambda: None,
        streams: int = 1,
        *,
        text: TextSettings,
    ) -> None:
        super().__init__(manifest, weights, library, device, contexts, folder, on_close, streams)
        self.text = text
        self._tokenizer = TextTokenizer(text)

    @property
    def width(self) -> int:
        """Numbers of one vector."""
        dim = self.manifest.outputs[0].shape[1]
        if not isinstance(dim, int):
            raise TypeError("the width of an encoder is static")
        return dim

    def encode(
        self, texts: Sequence[str], *, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> np.ndarray:
        """One vector for each text. The bits of a vector depend on its text alone, not on its neighbours.

        Args:
            texts: a list or tuple of texts; texts over `text.max_tokens` tokens lose their end
                (`encode_reported` says which).
            progress: called after every run with the number of texts done and of all texts.

        Returns:
            float32 `[texts, width]`; `[0, width]` for no texts.

        Raises:
            TextRefused: something is not a text, or a text does not fit the bound of `tokens`.
            TokenizerDamaged: the tokenizer file is unusable.
        """
        return self.encode_reported(texts, progress=progress).embeddings

    def encode_reported(
        self, texts: Sequence[str], *, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Encoding:
        """`encode`, with token counts and which texts were truncated."""
        tokenized = self.tokenize(texts)
        lengths = tuple(len(row) for row in tokenized.rows)
        bounds = self.manifest.symbols
        for position, length in enumerate(lengths):
            if length > bounds["tokens"]:
                reason = f"{length} tokens exceed the bound of the symbol tokens, {bounds['tokens']}"
                raise TextRefused(position=position, reason=reason)
        embeddings = np.empty((len(texts), self.width), np.float32)
        runs = 0
        for pack in pack_rows(lengths, bounds["tokens"], bounds["rows"]):
            inputs = self.inputs_of(tokenized.rows[pack.begin : pack.end])
            self.run(inputs, out={"embeddings": embeddings[pack.begin : pack.end]})
            runs += 1
            progress(pack.end, len(texts))
        return Encoding(
            embeddings=embeddings, token_counts=lengths, truncated=tokenized.truncated, runs=runs
        )  # fmt: skip

    def run(
        self, inputs: Mapping[str, Any], *, out: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """`Model.run`; row offsets that are no rows of these tokens are refused.

        Raises:
            InputRefused: also where `row_offsets` do not ascend from 0 to the number of tokens.
        """
        ids, offsets = np.asarray(inputs.get("token_ids")), np.asarray(inputs.get("row_offsets"))
        if ids.ndim == offsets.ndim == 1 and offsets.size and offsets.dtype.kind == "i":
            ends = int(offsets[0]), int(offsets[-1])
            if ends != (0, ids.size) or bool((np.diff(offsets) < 0).any()):
                reason = f"they must ascend from 0 to the number of tokens, {ids.size}"
                raise InputRefused(model=self.name, input="row_offsets", reason=reason)
        return super().run(inputs, out=out)

    def inputs_of(self, rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """The inputs of one run for rows of token ids."""
        offsets = np.array([0, *accumulate(len(row) for row in rows)], np.int32)
        return {"token_ids": np.concatenate([np.empty(0, np.int32), *rows]), "row_offsets": offsets}

    def example_inputs(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Inputs at the bounds of both symbols: rows of about equal length with ids of the vocabulary."""
        tokens, rows = self.manifest.symbols["tokens"], self.manifest.symbols["rows"]
        ids = generator.integers(0, self.text.vocabulary, tokens).astype(np.int32)
        offsets = (np.arange(rows + 1, dtype=np.int64) * tokens // rows).astype(np.int32)
        return {"token_ids": ids, "row_offsets": offsets}

    def tokenize(self, texts: Sequence[str]) -> TokenizedTexts:
        """Token ids of texts, as `encode` uses them.

        Raises:
            TextRefused, TokenizerDamaged: as `encode`.
        """
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise TextRefused(position="*", reason=f"a list of texts is needed, not {type(texts).__name__}")
        return self._tokenizer.tokenize(texts)
