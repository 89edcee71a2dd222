"""`plumb infer MODEL`: one inference at a server, as JSON or as binary tensor data."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING, Any

from plumbline.product.cli.answer import Answer, table
from plumbline.product.cli.arguments import parse_assignment
from plumbline.product.cli.given_inputs import add_inputs, read_inputs
from plumbline.product.cli.server_command import ServerCommand
from plumbline.product.cli.server_models import json_or_text

if TYPE_CHECKING:
    from plumbline.product.client import Client, InferAnswer

__all__ = ["INFER", "add_priority"]

_FIRST_VALUES = 4


def add_priority(parser: ArgumentParser) -> None:
    """`--priority`."""
    parser.add_argument("--priority", type=_priority, metavar="0..9", help="higher goes first (default 5)")


def _arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="name of the model")
    add("--version", metavar="V", help="this version (default: the one that unpinned requests get)")
    add_inputs(parser)
    add("--output", action="append", default=[], metavar="NAME", help="only this output; may be repeated")
    add_priority(parser)
    add("--deadline", type=float, metavar="S", help="the answer must be there within S seconds")
    add("--start-within", type=float, metavar="S", help="refuse it when it has not started by then")
    add(
        "--parameter", action="append", default=[], metavar="NAME=VALUE", type=parse_assignment,
        help="for the version; JSON or text",
    )  # fmt: skip
    add("--request-id", metavar="ID", help="id of the request in every layer, for `plumb explain`")
    add("--binary", action="store_true", help="send and receive tensors as binary data")
    add("--output-dir", metavar="DIR", help="write each output as DIR/NAME.npy")


def _infer(client: Client, arguments: Namespace) -> Answer:
    inputs, datatypes = read_inputs(
        client, arguments.model, arguments.version, arguments.input, arguments.text
    )
    answer = client.infer(
        arguments.model,
        inputs,
        version=arguments.version,
        outputs=arguments.output,
        datatypes=datatypes,
        priority=arguments.priority,
        start_within_s=arguments.start_within,
        deadline_s=arguments.deadline,
        parameters={name: json_or_text(value) for name, value in arguments.parameter},
        request_id=arguments.request_id,
        binary=arguments.binary,
    )
    if arguments.output_dir:
        _write(answer, arguments.output_dir)
    rows = [
        [name, answer.datatypes[name], "x".join(map(str, array.shape)) or "scalar", _first(array)]
        for name, array in answer.outputs.items()
    ]
    said = f"{answer.model}@{answer.version}  request {answer.request_id}"
    text = f"{table(rows, ['output', 'datatype', 'shape', 'first values'])}\n{said}"
    return Answer(document=_document(answer), text=text)


def _document(answer: InferAnswer) -> dict[str, Any]:
    return {
        "model": answer.model,
        "version": answer.version,
        "request_id": answer.request_id,
        "outputs": [
            {
                "name": name,
                "datatype": answer.datatypes[name],
                "shape": list(array.shape),
                "data": [_plain(item) for item in array.reshape(-1).tolist()],
            }
            for name, array in answer.outputs.items()
        ],
        "parameters": dict(answer.parameters),
    }


def _write(answer: InferAnswer, folder: str) -> None:
    from pathlib import Path

    import numpy as np

    from plumbline.product.cli.answer import OutputUnwritable

    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, array in answer.outputs.items():
            plain = np.array(array.tolist(), dtype="S") if array.dtype == object else array
            np.save(Path(folder) / f"{name.replace('/', '_')}.npy", plain, allow_pickle=False)
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise OutputUnwritable(file=Path(folder).name, reason=reason) from error


def _first(array: Any) -> str:
    shown = [_plain(item) for item in array.reshape(-1)[:_FIRST_VALUES].tolist()]
    return ", ".join(f"{item:.6g}" if isinstance(item, float) else str(item)[:60] for item in shown)


def _plain(item: Any) -> Any:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else item


def _priority(text: str) -> int:
    if not (text.isdecimal() and len(text) == 1):
        raise ArgumentTypeError(f"{text!r} is not a priority: 0 to 9")
    return int(text)


INFER = ServerCommand(run=_infer, arguments=_arguments)
