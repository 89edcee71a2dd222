"""One OpenAPI document for all routes of a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["merge_documents"]

_REFERENCE = "#/components/schemas/"


def merge_documents(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The first document with the paths and components of the second.

    A schema of both that is not the same is called `Native...` where the second means it.

    Raises:
        ValueError: both have a path or another component of one name: our bug.
    """
    shared = first["paths"].keys() & second["paths"].keys()
    if shared:
        raise ValueError(f"both documents have {sorted(shared)}")
    ours, theirs = first.get("components", {}), second.get("components", {})
    clashes = {
        name
        for name, schema in theirs.get("schemas", {}).items()
        if ours.get("schemas", {}).get(name, schema) != schema
    }
    second = _renamed(second, {name: f"Native{name}" for name in clashes})
    theirs = second.get("components", {})
    merged = {**first, "paths": {**first["paths"], **second["paths"]}, "components": {}}
    for kind in sorted({*ours, *theirs}):
        merged["components"][kind] = {**ours.get(kind, {}), **theirs.get(kind, {})}
    return merged


def _renamed(document: Any, names: Mapping[str, str]) -> Any:
    """The document with its schemas under other names, and every reference to them."""
    changed = _referring(document, {_REFERENCE + old: _REFERENCE + new for old, new in names.items()})
    schemas = changed.get("components", {}).get("schemas", {})
    if schemas:
        changed["components"]["schemas"] = {names.get(name, name): schema for name, schema in schemas.items()}
    return changed


def _referring(value: Any, references: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {
            key: references.get(item, item) if key == "$ref" else _referring(item, references)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_referring(item, references) for item in value]
    return value
