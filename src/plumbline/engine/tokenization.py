"""Texts into token ids, by the tokenizer file of a model."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plumbline.compiler.importers.payload import open_source
from plumbline.errors import ArtifactError, ValidationError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["TextRefused", "TextSettings", "TextTokenizer", "TokenizedTexts", "TokenizerDamaged"]

FILE_BYTES = 256 * 2**20


@dataclass(eq=False, kw_only=True)
class TokenizerDamaged(ArtifactError):
    """A tokenizer file cannot be used with its model."""

    code = "artifact.tokenizer"
    owner = "engine"
    template = "tokenizer {file}: {reason}"

    file: str
    reason: str


@dataclass(eq=False, kw_only=True)
class TextRefused(ValidationError):
    """What should be encoded is no list of texts, or one of them is not a text."""

    code = "validation.text"
    owner = "engine"
    template = "text {position}: {reason}"

    position: int | str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSettings:
    """How texts become tokens.

    Attributes:
        tokenizer: file of the tokenizer.
        max_tokens: longest row, special tokens included; longer texts lose their end.
        vocabulary: ids are below this.
        lowercase: whether texts are lower-cased first.
        prompt: text put before every text.
        assumptions: sentences that say what no file of the model decided.
    """

    tokenizer: Path
    max_tokens: int
    vocabulary: int
    lowercase: bool = False
    prompt: str = ""
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedTexts:
    """Token ids of each text, int32 [tokens], and the positions of the texts that were truncated."""

    rows: tuple[np.ndarray, ...]
    truncated: tuple[int, ...]


class TextTokenizer:
    """Loads its file at the first text. Safe to call from several threads."""

    def __init__(self, settings: TextSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()

    def tokenize(self, texts: Sequence[str]) -> TokenizedTexts:
        """Token ids with special tokens, truncated to `max_tokens`. White space around a text is dropped.

        Raises:
            TextRefused: naming the text that is none.
            TokenizerDamaged: the file is unusable, or gives an id that the model does not have.
        """
        with self._lock:
            tokenizer = self._tokenizer
        encodings = tokenizer.encode_batch([self._prepared(i, text) for i, text in enumerate(texts)])
        rows = tuple(np.array(encoding.ids, np.int32) for encoding in encodings)
        highest = max((int(row.max()) for row in rows if row.size), default=0)
        if highest >= self.settings.vocabulary:
            raise self._damaged(f"it gives id {highest}, the model has {self.settings.vocabulary}")
        truncated = tuple(i for i, encoding in enumerate(encodings) if encoding.overflowing)
        return TokenizedTexts(rows=rows, truncated=truncated)

    def _prepared(self, position: int, text: Any) -> str:
        if not isinstance(text, str):
            raise TextRefused(position=position, reason=f"it is {type(text).__name__}, not str")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            reason = f"character {error.start} is half of a surrogate pair"
            raise TextRefused(position=position, reason=reason) from error
        whole = (self.settings.prompt + text).strip()
        return whole.lower() if self.settings.lowercase else whole

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        path = self.settings.tokenizer
        source, _ = open_source(path, purpose="a tokenizer", limit_bytes=FILE_BYTES)
        try:
            tokenizer = Tokenizer.from_buffer(bytes(source.buffer))
        except Exception as error:  # the library has no narrower type for a file that it cannot read
            raise self._damaged(str(error)[:200]) from error
        special = tokenizer.num_special_tokens_to_add(is_pair=False)
        if special >= self.settings.max_tokens:
            raise self._damaged(f"its {special} special tokens fill all {self.settings.max_tokens} of a row")
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.settings.max_tokens)
        return tokenizer

    def _damaged(self, reason: str) -> TokenizerDamaged:
        return TokenizerDamaged(file=self.settings.tokenizer.name, reason=reason)
