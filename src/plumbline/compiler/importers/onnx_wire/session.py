"""What one reading of a file carries from message to message."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.compiler.importers.onnx_wire.external import ExternalFolder
from plumbline.compiler.importers.onnx_wire.wire import Walker

__all__ = ["ReadSession"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSession:
    """The walker over the file and the folder where its external data may be."""

    walker: Walker
    external: ExternalFolder
