"""Answers in a content encoding that the client asked for."""

from __future__ import annotations

import asyncio
import zlib

from plumbline.serving.open_inference.exchange import Answer

__all__ = ["LEAST_BYTES", "compressed"]

LEAST_BYTES = 1024
"""Smaller answers are sent as they are."""


async def compressed(answer: Answer, encoding: bytes) -> Answer:
    """The answer in `gzip` or `deflate` (zlib format), made on a thread."""
    body = await asyncio.to_thread(_deflate, answer.body, 31 if encoding == b"gzip" else 15)
    headers = (*answer.headers, (b"content-encoding", encoding), (b"vary", b"accept-encoding"))
    return Answer(status=answer.status, body=body, media_type=answer.media_type, headers=headers)


def _deflate(body: bytes, window: int) -> bytes:
    deflator = zlib.compressobj(1, zlib.DEFLATED, window)
    return deflator.compress(body) + deflator.flush()
