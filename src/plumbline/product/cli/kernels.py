"""`plumb kernels`: operation x element type x device, with the implementation (L1-01)."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from plumbline.product.cli.answer import Answer, table
from plumbline.product.cli.arguments import add_document_file

if TYPE_CHECKING:
    from plumbline.kernels.contract import OperationContract


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb kernels`."""
    parser.add_argument("--operation", metavar="NAME", help="this operation only")
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """List operations."""
    from plumbline.kernels.registry import get_operation, operations

    chosen = operations() if arguments.operation is None else (get_operation(arguments.operation),)
    listed = [describe_operation(contract) for contract in chosen]
    rows = [
        [o["operation"], o["device"], o["implementation"], " ".join(o["dtypes"]) or "any"] for o in listed
    ]
    return Answer(
        document={"schema_version": 1, "kernels": listed},
        text=table(rows, ["operation", "device", "implementation", "element types"]),
    )


def describe_operation(contract: OperationContract) -> dict[str, Any]:
    """One row: where the native code comes from, and what it promises."""
    from plumbline.kernels.rows import NeverRows

    return {
        "operation": contract.name,
        "device": "cpu" if contract.kernel is not None else "none",
        "implementation": _implementation(contract),
        "dtypes": sorted(d.value for d in contract.dtypes),
        "precision": {"relative": contract.precision.relative, "absolute": contract.precision.absolute},
        "in_place": [list(pair) for pair in contract.inplace],
        "row_rule": not isinstance(contract.rows, NeverRows),
    }


def _implementation(contract: OperationContract) -> str:
    if contract.kernel is not None:
        kind = type(contract.kernel)
        return f"{kind.__module__.removeprefix('plumbline.kernels.')}.{kind.__name__}"
    return "view of its input" if contract.is_view else "at build only"
