"""The command line `plumb`. Product layer (L6). Imports every layer below, each when a command needs it."""

from __future__ import annotations

from plumbline.product.cli.entry import main

__all__ = ["main"]
