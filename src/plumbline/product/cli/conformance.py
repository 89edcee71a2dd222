"""`plumb conformance onnx`: the ONNX backend test suite against native code."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from plumbline.product.cli.answer import Answer
from plumbline.product.cli.arguments import add_document_file


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb conformance`."""
    parser.add_argument("suite", choices=["onnx"], help="which suite")
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """Run."""
    raise NotImplementedError
