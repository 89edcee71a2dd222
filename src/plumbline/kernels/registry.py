"""The operations that this process knows. Built-in families register on first use, plug-ins by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module

from plumbline.errors import ValidationError
from plumbline.kernels.contract import OperationContract

__all__ = [
    "OperationConflict",
    "OperationUnknown",
    "find_operation",
    "get_operation",
    "operations",
    "register",
    "registered_operations",
]

FAMILIES: tuple[str, ...] = (
    "plumbline.kernels.pointwise",
    "plumbline.kernels.reduction",
    "plumbline.kernels.normalization",
    "plumbline.kernels.quantization",
    "plumbline.kernels.symbolic",
    "plumbline.kernels.gemm",
    "plumbline.kernels.blocked",
    "plumbline.kernels.matrix",
    "plumbline.kernels.convolution",
    "plumbline.kernels.pooling",
    "plumbline.kernels.recurrent",
    "plumbline.kernels.attention",
    "plumbline.kernels.signal",
    "plumbline.kernels.training",
    "plumbline.kernels.trees",
    "plumbline.kernels.movement",
    "plumbline.kernels.indexing",
    "plumbline.kernels.text",
    "plumbline.kernels.sampling",
)
"""Packages of built-in operations; each has `CONTRACTS`, an iterable of `OperationContract`."""

_contracts: dict[str, OperationContract] = {}
_loaded = False


@dataclass(eq=False, kw_only=True)
class OperationUnknown(ValidationError):
    """No operation of that name is registered."""

    code = "validation.operation_unknown"
    owner = "kernels"
    template = "operation {operation!r} is not registered"

    operation: str


@dataclass(eq=False, kw_only=True)
class OperationConflict(ValidationError):
    """An operation of that name exists already."""

    code = "validation.operation_conflict"
    owner = "kernels"
    template = "operation {operation!r} is registered already"

    operation: str


def register(contract: OperationContract) -> None:
    """Add an operation.

    Raises:
        OperationConflict: the name is taken.
    """
    _load_families()
    _add((contract,))


def get_operation(name: str) -> OperationContract:
    """The contract of an operation.

    Raises:
        OperationUnknown: nothing is registered under that name.
    """
    contract = find_operation(name)
    if contract is None:
        raise OperationUnknown(operation=name)
    return contract


def find_operation(name: str) -> OperationContract | None:
    """The contract of an operation, or None."""
    _load_families()
    return _contracts.get(name)


def operations() -> tuple[OperationContract, ...]:
    """Every registered operation, by name."""
    _load_families()
    return tuple(_contracts[name] for name in sorted(_contracts))


def registered_operations() -> tuple[OperationContract, ...]:
    """What is registered so far; loads no family."""
    return tuple(_contracts.values())


def _load_families() -> None:
    global _loaded
    if _loaded:
        return
    _loaded = True
    for family in FAMILIES:
        _add(import_module(family).CONTRACTS)


def _add(contracts: Iterable[OperationContract]) -> None:
    for contract in contracts:
        if contract.name in _contracts:
            raise OperationConflict(operation=contract.name)
        _contracts[contract.name] = contract
