"""`plumb cache path`: where executables lie."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from plumbline.product.cli.answer import Answer
from plumbline.product.cli.arguments import add_document_file


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb cache path`."""
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """Print the folder; it need not exist yet."""
    from plumbline.config.settings import read_settings

    folder = read_settings().cache_dir / "executables"
    return Answer(document={"schema_version": 1, "path": str(folder)}, text=str(folder))
