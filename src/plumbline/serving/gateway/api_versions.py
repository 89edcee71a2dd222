"""Versions of the native API, chosen by media type or by address."""

from __future__ import annotations

import re
from collections.abc import Sequence

from plumbline.serving.gateway.refusals import VersionRefused

__all__ = ["VENDOR", "negotiate", "version_in_path"]

VENDOR = b"application/vnd.plumbline."
_VENDOR_RANGE = re.compile(rb"application/vnd\.plumbline\.v(\d{1,9})\+json\s*(?:;|$)")
_PATH = re.compile(r"/api/v(\d{1,9})(?:/|$)")


def negotiate(accept: bytes, known: Sequence[int]) -> int | None:
    """The version that an `Accept` header picks; None when it names no version.

    Raises:
        VersionRefused: it names only versions that do not exist, and would not take plain JSON either.
    """
    if VENDOR not in accept:
        return None
    asked: list[str] = []
    plain = False
    for part in accept.split(b","):
        media = part.strip()
        found = _VENDOR_RANGE.match(media)
        if found and int(found[1]) in known:
            return int(found[1])
        if media.startswith(VENDOR):
            asked.append(media[len(VENDOR) :].decode("latin-1")[:40])
        plain = plain or media.split(b";")[0].strip() in (b"*/*", b"application/*", b"application/json")
    if plain:
        return None
    raise VersionRefused(
        asked=", ".join(ascii(version)[1:-1] for version in asked[:4]),
        known=", ".join(f"v{version}" for version in known),
    )


def version_in_path(path: str) -> int | None:
    """The version that an address of the native API names.

    >>> version_in_path("/api/v9/tasks")
    9
    """
    found = _PATH.match(path)
    return int(found[1]) if found else None
