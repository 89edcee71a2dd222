"""Every error leaf under `plumbline`, found by importing every module, and an example of each."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import importlib
import pkgutil
import types
import typing
from pathlib import Path
from typing import Any

import plumbline
from plumbline import errors

NO_IMPORT = frozenset({"__main__"})
APART = "plumbline.product.bench.serving.peers."
"""Programs that run in the environments of peers, with packages that ours has not."""


def import_everything() -> list[str]:
    """Import every module under `plumbline`; returns their dotted names."""
    names = [
        module.name
        for module in pkgutil.walk_packages(plumbline.__path__, "plumbline.")
        if module.name.rsplit(".", 1)[-1] not in NO_IMPORT and not module.name.startswith(APART)
    ]
    for name in names:
        importlib.import_module(name)
    return names


def error_leaves() -> list[type[errors.PlumblineError]]:
    """Concrete error classes of the package, ordered by code."""
    import_everything()
    found: list[type[errors.PlumblineError]] = []
    waiting = [errors.PlumblineError]
    while waiting:
        children = waiting.pop().__subclasses__()
        waiting += children
        found += [kind for kind in children if is_leaf(kind)]
    return sorted(set(found), key=lambda kind: (kind.code, kind.__name__))


def is_leaf(kind: type[errors.PlumblineError]) -> bool:
    """Whether the class is shipped and says its own code (the seven kinds of `errors` are not leaves)."""
    return (
        kind.__module__.startswith("plumbline.")
        and kind.__module__ != errors.__name__
        and ("code" in vars(kind) or not kind.__subclasses__())
    )


def example(kind: type[errors.PlumblineError]) -> errors.PlumblineError:
    """An instance whose fields are made from their annotations."""
    return kind(**_example_fields(kind))


def _example_fields(kind: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {
        field.name: example_value(hints[field.name], name=field.name)
        for field in dataclasses.fields(kind)
        if field.init
    }


def example_value(annotation: Any, *, name: str) -> Any:
    """A value of the annotated type. Raises TypeError for a type it does not know."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        options = [option for option in arguments if option is not type(None)]
        return example_value(options[0], name=name)
    if origin is typing.Literal:
        return arguments[0]
    if origin is tuple:
        items = arguments[:1] if arguments[-1:] == (Ellipsis,) else arguments
        return tuple(example_value(item, name=name) for item in items)
    if origin in (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection):
        return [example_value(arguments[0], name=name)]
    if origin in (set, frozenset):
        return origin([example_value(arguments[0], name=name)])
    if origin in (dict, collections.abc.Mapping):
        key, value = arguments
        return {example_value(key, name=name): example_value(value, name=name)}
    return _example_plain(annotation, name=name)


def _example_plain(annotation: Any, *, name: str) -> Any:
    simple: dict[Any, Any] = {
        str: name,
        int: 1,
        float: 1.5,
        bool: True,
        bytes: b"\0",
        Any: name,
        object: name,
        Path: Path(name),
        tuple: (),
        list: [],
        dict: {},
    }
    if annotation in simple:
        return simple[annotation]
    if isinstance(annotation, typing.NewType):
        return example_value(annotation.__supertype__, name=name)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return next(iter(annotation))
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return annotation(**_example_fields(annotation))
    raise TypeError(f"no example is known for {name}: {annotation!r}; add one to scripts/error_catalogue.py")
