"""`plumb models plan`: the memory plan of a version that a server prepared, and its picture."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plumbline.errors import ValidationError
from plumbline.product.cli.answer import Answer, table, write_text
from plumbline.product.cli.server_command import ServerCommand

if TYPE_CHECKING:
    from plumbline.product.client import Client

__all__ = ["PLAN", "NoVersionReady"]

_PARTS = ("weights_bytes", "state_bytes", "peak_bytes", "lower_bound_bytes", "naive_bytes", "total_bytes")
_SHOWN_BUFFERS = 20


@dataclass(eq=False, kw_only=True)
class NoVersionReady(ValidationError):
    """No version was named, and none of the model serves."""

    code = "validation.no_version_ready"
    owner = "product"
    template = "no version of {model!r} is ready; name one with --version, known: {versions}"

    model: str
    versions: str


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="name of the model")
    parser.add_argument("--version", metavar="V", help="this version (default: the one with most requests)")
    parser.add_argument("--stage", metavar="MODEL@V", help="of a pipeline: the model that --svg draws")
    parser.add_argument("--svg", metavar="FILE", help="write the picture: time against address")


def _plan(client: Client, arguments: Namespace) -> Answer:
    from plumbline.product.client.transport import place

    version = arguments.version or _usual_version(client.model(arguments.model))
    path = place("api", "v1", "models", arguments.model, "versions", version, "plan")
    document = client.ask("GET", path)
    if arguments.svg is not None:
        query = {"stage": arguments.stage}
        picture = client.call("GET", f"{path}.svg", query=query, headers={"accept": "image/svg+xml"})
        write_text(arguments.svg, picture.body.decode())
    return Answer(document=document, text=_text(document))


def _usual_version(model: dict[str, Any]) -> str:
    """The ready version that most requests get.

    Raises:
        NoVersionReady: none is.
    """
    ready = [version for version in model["versions"] if version["ready"]]
    if not ready:
        known = ", ".join(version["version"] for version in model["versions"][:8])
        raise NoVersionReady(model=model["name"], versions=known)
    return str(max(ready, key=lambda version: version["share"])["version"])


def _text(document: dict[str, Any]) -> str:
    plans = [_plan_text(plan) for plan in document["plans"]]
    without = [f"{one['stage']}: {one['reason']}" for one in document["without"]]
    return "\n\n".join([*plans, *without])


def _plan_text(plan: dict[str, Any]) -> str:
    rows: list[list[object]] = [[name.removesuffix("_bytes"), plan[name]] for name in _PARTS]
    largest = sorted(plan["buffers"], key=lambda b: -b["size_bytes"])[:_SHOWN_BUFFERS]
    buffers = [
        [b["name"], b["size_bytes"], b["offset_bytes"], b["first_step"], b["last_step"]] for b in largest
    ]
    facts = (
        f"total = weights + state + {plan['arenas']} x peak; plan {plan['digest']}, {plan['steps']} steps, "
        f"reuse {plan['reuse_percent']} %"
    )
    shown = f"{len(largest)} of {plan['buffers_total']} buffers, largest first"
    headings = [shown, "bytes", "offset", "first step", "last step"]
    return "\n".join([table(rows, [plan["stage"], "bytes"]), "", facts, "", table(buffers, headings)])


PLAN = ServerCommand(run=_plan, arguments=_arguments)
