"""`TextSession`: texts in, vectors out; the token rows of several requests packed into one launch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from plumbline.contracts.inference import Tensors, VersionRef
from plumbline.contracts.models import ModelMetadata, TensorSpec, VersionKind
from plumbline.contracts.versions import VersionSettings
from plumbline.engine.encoder import Pack, TextEncoder, pack_rows
from plumbline.engine.model import InputRefused
from plumbline.engine.session import Admitted, Instance
from plumbline.engine.sessions.model import planned_memory, run_segments, verify_segment_bounds
from plumbline.engine.tokenization import TextRefused
from plumbline.execution.context import ExecutionContext
from plumbline.scheduling.request import BatchTerms

__all__ = ["EMBEDDINGS", "MAX_TEXTS", "MAX_TEXT_BYTES", "TEXTS", "TextSession"]

TEXTS, EMBEDDINGS = "texts", "embeddings"
MAX_TEXTS = 4096
"""Most texts of one request."""
MAX_TEXT_BYTES = 1 << 20
"""Longest text, in UTF-8 bytes; a model reads only its beginning anyway."""

Rows = Sequence[np.ndarray]
"""Token ids of each text of a request, int32 [tokens]."""


@dataclass(frozen=True, slots=True)
class TextBounds:
    """Most tokens and rows of one run."""

    tokens: int
    rows: int

    def packs(self, rows: Rows) -> Iterator[Pack]:
        """The runs that rows need."""
        return pack_rows([len(row) for row in rows], self.tokens, self.rows)

    def units(self, rows: Rows) -> int:
        """What a request takes of a launch, in tokens; many short rows count as if they were longer, so that
        a launch of `tokens` units holds at most `rows` rows. At most `tokens`: more is run in several parts.
        """
        tokens = sum(len(row) for row in rows)
        return min(max(tokens, -(-len(rows) * self.tokens // self.rows)), self.tokens)


class TextSession:
    """Requests on an encoder: `texts` BYTES [n] in UTF-8, `embeddings` FP32 [n, width]. Owns the encoder.

    Texts are tokenised at submission, on the caller's thread. Rows of several requests lie one after the
    other on the token axis, without padding. A vector has the same bits alone, in any company, and when a
    request is larger than one run and is split. For tenants the rule of `ModelSession` holds.

    Args:
        ref: which version this is.
        encoder: opened without contexts of its own.
        settings: of the version; `max_batch` bounds the texts of one launch.
        digest: of its content.

    Raises:
        SegmentBoundsRefused: the settings bound other segments than the encoder has.
    """

    def __init__(
        self, ref: VersionRef, encoder: TextEncoder, settings: VersionSettings, *, digest: str = ""
    ) -> None:
        self._encoder, self._settings, self._key = encoder, settings, str(ref)
        symbols = encoder.manifest.symbols
        rows = min(settings.max_batch or symbols["rows"], symbols["rows"])
        self._bounds = TextBounds(tokens=symbols["tokens"], rows=rows)
        verify_segment_bounds(ref, settings, encoder.manifest)
        self._segments_ns = settings.segment_bounds_ns
        self._cost_ns = sum(self._segments_ns) or settings.cost_bound_ns
        memory = planned_memory(encoder, settings.instances)
        width = encoder.width
        self.metadata = ModelMetadata(
            ref=ref, kind=VersionKind.TEXT,
            inputs=(TensorSpec(name=TEXTS, datatype="BYTES", shape=(-1,), bounds=(MAX_TEXTS,)),),
            outputs=(
                TensorSpec(
                    name=EMBEDDINGS, datatype="FP32", shape=(-1, width), bounds=(MAX_TEXTS, width)
                ),
            ),
            digest=digest, max_rows=rows, memory_bytes=sum(memory.values()), memory=memory,
        )  # fmt: skip

    @property
    def instances(self) -> int:
        """Instances that its memory is planned for."""
        return self._settings.instances

    def admit(self, inputs: Tensors, parameters: Mapping[str, Any], tenant: str) -> Admitted:
        """Tokenise.

        Raises:
            InputRefused: `texts` is missing, no array of bytes [n], or there is another input.
            TextRefused: naming the text that is not UTF-8, is too long, or does not fit a run.
        """
        rows = self._encoder.tokenize(self._texts(inputs)).rows
        for position, row in enumerate(rows):
            if len(row) > self._bounds.tokens:
                reason = f"{len(row)} tokens, a run holds {self._bounds.tokens}"
                raise TextRefused(position=position, reason=reason)
        owner = f"|{tenant}" if self._settings.separate_tenants else ""
        batch = BatchTerms(
            key=self._key + owner, units=self._bounds.units(rows), max_units=self._bounds.tokens,
            max_requests=self._bounds.rows, max_delay_ns=self._settings.max_delay_ns,
        )  # fmt: skip
        runs = max(sum(1 for _ in self._bounds.packs(rows)), 1)
        return Admitted(
            inputs=rows, batch=batch, cost_bound_ns=runs * self._cost_ns,
            segment_bounds_ns=runs * self._segments_ns,
        )  # fmt: skip

    def open_instance(self) -> Instance:
        """A context of the encoder.

        Raises:
            PlumblineError: memory or threads ran out.
        """
        return TextInstance(self._encoder.context(), self._bounds, self._encoder.width)

    def example(self) -> Tensors:
        """Enough words to fill the tokens of one run."""
        text = b"measured where it matters " * self._encoder.text.max_tokens
        texts = max(1, min(self._bounds.rows, self._bounds.tokens // self._encoder.text.max_tokens))
        return {TEXTS: np.array([text[:MAX_TEXT_BYTES]] * texts, object)}

    def close(self) -> None:
        """Close the encoder."""
        self._encoder.close()

    def _texts(self, inputs: Tensors) -> list[str]:
        for name in inputs:
            if name != TEXTS:
                raise self._refused(str(name)[:100], f"unknown; the inputs are: {TEXTS}")
        given = inputs.get(TEXTS)
        if given is None:
            raise self._refused(TEXTS, "it is missing")
        if not isinstance(given, np.ndarray) or given.dtype != np.dtype(object) or given.ndim != 1:
            raise self._refused(TEXTS, "expected an array [n] of byte strings")
        if len(given) > MAX_TEXTS:
            raise self._refused(TEXTS, f"{len(given)} texts, at most {MAX_TEXTS}")
        return [_decoded(position, text) for position, text in enumerate(given)]

    def _refused(self, name: str, reason: str) -> InputRefused:
        return InputRefused(model=self._key, input=name, reason=reason)


class TextInstance:
    """One context of an encoder."""

    segments = 1

    def __init__(self, context: ExecutionContext, bounds: TextBounds, width: int) -> None:
        self._context, self._bounds, self._width = context, bounds, width

    def run(
        self, batch: Sequence[Admitted], between: Callable[[int], bool]
    ) -> Sequence[Tensors | Exception] | None:
        """Run the rows of all requests, in as many runs as they need; `between` is asked between runs too.

        Raises:
            PlumblineError: the launch failed.
        """
        rows = [row for admitted in batch for row in admitted.inputs]
        vectors = np.empty((len(rows), self._width), np.float32)
        for number, pack in enumerate(self._bounds.packs(rows)):
            if number and not between(number):
                return None
            if not self._run_pack(rows, pack, between):
                return None
            vectors[pack.begin : pack.end] = self._context.outputs[EMBEDDINGS]
        ends = list(accumulate(len(admitted.inputs) for admitted in batch))
        return [{EMBEDDINGS: vectors[b:e].copy()} for b, e in zip([0, *ends], ends, strict=False)]

    def close(self) -> None:
        """Close the context."""
        self._context.close()

    def _run_pack(self, rows: Rows, pack: Pack, between: Callable[[int], bool]) -> bool:
        chosen = rows[pack.begin : pack.end]
        ends = list(accumulate(len(row) for row in chosen))
        self._context.set_symbols({"tokens": ends[-1], "rows": len(chosen)})
        ids, offsets = self._context.inputs["token_ids"], self._context.inputs["row_offsets"]
        offsets[0] = 0
        offsets[1:] = ends
        for begin, row in zip([0, *ends], chosen, strict=False):
            ids[begin : begin + len(row)] = row
        return run_segments(self._context, between)


def _decoded(position: int, text: object) -> str:
    if not isinstance(text, bytes):
        raise TextRefused(position=position, reason=f"it is {type(text).__name__}, not bytes")
    if len(text) > MAX_TEXT_BYTES:
        raise TextRefused(position=position, reason=f"{len(text)} bytes, at most {MAX_TEXT_BYTES}")
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TextRefused(position=position, reason=f"byte {error.start} is not UTF-8") from error
