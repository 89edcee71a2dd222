"""How much an untrusted model file may ask of the reader."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.errors import ArtifactError

__all__ = ["ImportLimitError", "ImportLimits"]


@dataclass(eq=False, kw_only=True)
class ImportLimitError(ArtifactError):
    """A model file asks for more than `ImportLimits` grants."""

    code = "artifact.import_limit"
    owner = "compiler.importers"
    template = "{file}: {place} has {found} {limit}, more than the {allowed} allowed"

    file: str
    place: str
    limit: str
    found: int
    allowed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportLimits:
    """Upper bounds that hold while a file is indexed. Counts are for the whole file unless said otherwise.

    The defaults admit every model that other engines load, and keep the worst hostile file under about one
    gigabyte of records and a few seconds.
    """

    file_bytes: int = 2**31 - 1
    """Size of the model file; larger models keep their weights in external files."""
    external_file_bytes: int = 2**43
    """Size of one external data file."""
    inline_bytes: int = 2**31 - 1
    """Sum of tensor payloads stored inside the model file."""
    depth: int = 64
    """Nesting of messages; one nested graph takes three levels."""
    fields: int = 8_000_000
    """Encoded fields that are walked (payload bytes are not walked)."""
    nodes: int = 500_000
    """Nodes of all graphs and functions."""
    values: int = 2_000_000
    """Declared inputs, outputs and inner values."""
    tensors: int = 500_000
    """Initialisers and tensor attributes."""
    functions: int = 20_000
    """Local functions."""
    node_values: int = 65_536
    """Inputs, outputs or attributes of one node."""
    attribute_values: int = 4_000_000
    """Entries of all list attributes."""
    attribute_bytes: int = 64 * 2**20
    """Bytes of one string attribute."""
    payload_pieces: int = 65_536
    """Separate pieces of one tensor's typed data field."""
    name_bytes: int = 65_536
    """Bytes of one name."""
    text_bytes: int = 16 * 2**20
    """Bytes of one metadata value."""
    total_text_bytes: int = 256 * 2**20
    """Bytes of all names and texts together."""
    entries: int = 2_000_000
    """Metadata entries, and operator set imports."""
    rank: int = 32
    """Axes of one tensor."""
    elements: int = 2**40
    """Elements of one tensor, declared dimensions multiplied."""
