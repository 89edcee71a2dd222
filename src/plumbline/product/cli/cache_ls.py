"""`plumb cache ls`: the executables that are ready."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from plumbline.product.cli.answer import Answer, table
from plumbline.product.cli.arguments import add_document_file


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb cache ls`."""
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """List the entries, most recently used first."""
    from plumbline.product.cli.executable_cache import open_cache

    cache = open_cache()
    entries: list[dict[str, Any]] = [
        {"key": e.key, "name": name_of(e.path), "size_bytes": e.size_bytes, "used_at": rfc3339(e.used_at)}
        for e in cache.entries()
    ]
    total = sum(e["size_bytes"] for e in entries)
    document: dict[str, Any] = {
        "schema_version": 1,
        "entries": entries,
        "total_bytes": total,
        "max_bytes": cache.max_bytes,
    }
    rows = [[e["key"][:12], e["name"], e["size_bytes"], e["used_at"]] for e in entries]
    listing = table(rows, ["key", "model", "bytes", "last used"]) + "\n\n" if rows else ""
    return Answer(
        document=document, text=f"{listing}{len(entries)} executables, {total} of {cache.max_bytes} bytes"
    )


def name_of(folder: Path) -> str:
    """Name of the model of an entry, or `unreadable`."""
    from plumbline.execution.artifact import ManifestRefused, read_manifest

    try:
        return read_manifest(folder).name
    except ManifestRefused:
        return "unreadable"


def rfc3339(seconds: float) -> str:
    """A moment as RFC 3339 in UTC.

    >>> rfc3339(0)
    '1970-01-01T00:00:00Z'
    """
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
