"""`plumb cache gc`: make room."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from plumbline.product.cli.answer import Answer
from plumbline.product.cli.arguments import add_document_file, parse_size


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb cache gc`."""
    parser.add_argument(
        "--max-bytes", type=parse_size, metavar="SIZE", help="keep at most this (default: the cap)"
    )
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """Remove the least recently used entries until the rest fits."""
    from plumbline.product.cli.executable_cache import open_cache

    cache = open_cache()
    removed = cache.collect(max_bytes=arguments.max_bytes)
    freed = sum(e.size_bytes for e in removed)
    kept = cache.entries()
    document = {
        "schema_version": 1,
        "removed": [e.key for e in removed],
        "freed_bytes": freed,
        "kept": len(kept),
        "kept_bytes": sum(e.size_bytes for e in kept),
    }
    return Answer(
        document=document, text=f"removed {len(removed)} executables, {freed} bytes; kept {len(kept)}"
    )
