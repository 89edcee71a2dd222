"""Hugging Face folders into graphs: sentence encoders of the BERT family on a packed axis, no padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plumbline.compiler.importers.huggingface.folder import EncoderFolder, read_encoder_folder, settings_files

if TYPE_CHECKING:
    from plumbline.compiler.importers.huggingface.encoder import import_encoder

__all__ = ["EncoderFolder", "import_encoder", "read_encoder_folder", "settings_files"]


def __getattr__(name: str) -> Any:
    """The graph builder loads on first use: reading settings needs no kernels."""
    if name != "import_encoder":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from plumbline.compiler.importers.huggingface.encoder import import_encoder

    return import_encoder
