"""Why a folder in Hugging Face layout is refused."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.errors import ArtifactError, ValidationError

__all__ = [
    "ArchitectureUnsupported",
    "ConfigRefused",
    "FolderAmbiguous",
    "FolderIncomplete",
    "SymbolRefused",
    "WeightRefused",
]


@dataclass(eq=False, kw_only=True)
class FolderIncomplete(ArtifactError):
    """A file that the model needs is not in the folder."""

    code = "artifact.huggingface.incomplete"
    owner = "compiler.importers"
    template = "folder {folder!r} has no {missing}; {needed}"

    folder: str
    missing: str
    needed: str


@dataclass(eq=False, kw_only=True)
class FolderAmbiguous(ValidationError):
    """Several files could be meant; choosing one in silence could choose the wrong one."""

    code = "validation.huggingface.ambiguous"
    owner = "compiler.importers"
    template = "folder {folder!r} has several {what}: {choices}; leave one of them in it"

    folder: str
    what: str
    choices: str


@dataclass(eq=False, kw_only=True)
class ArchitectureUnsupported(ValidationError):
    """No importer builds this architecture."""

    code = "validation.huggingface.architecture"
    owner = "compiler.importers"
    template = "{file}: architecture {architecture!r} is not supported; supported are {supported}"

    file: str
    architecture: str
    supported: str


@dataclass(eq=False, kw_only=True)
class ConfigRefused(ValidationError):
    """A setting is missing, malformed, unknown, or asks for something that is not built."""

    code = "validation.huggingface.config"
    owner = "compiler.importers"
    template = "{file}: {key} = {value}: {reason}"

    file: str
    key: str
    value: str
    reason: str


@dataclass(eq=False, kw_only=True)
class WeightRefused(ArtifactError):
    """A weight is missing, left over, or of another type or shape than the configuration says."""

    code = "artifact.huggingface.weight"
    owner = "compiler.importers"
    template = "{file}: tensor {tensor!r}: {reason}"

    file: str
    tensor: str
    reason: str


@dataclass(eq=False, kw_only=True)
class SymbolRefused(ValidationError):
    """A bound is given for a symbol that the model does not have, or it is out of range."""

    code = "validation.huggingface.symbol"
    owner = "compiler.importers"
    template = "symbol {symbol!r} = {bound}: {reason}"

    symbol: str
    bound: int
    reason: str
