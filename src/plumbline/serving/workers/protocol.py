"""What gateway and worker say to each other: msgspec structs, as MessagePack arrays, in frames.

Gateway to worker: `ToWorker`. Worker to gateway: `FromWorker`. Tensors are not in here, only where they are
(`TensorAt`). `SCHEMA_VERSION` is in the first message of a worker; a golden file holds every message's bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import ModelMetadata, TensorSpec, VersionKind
from plumbline.contracts.versions import VersionSpec

__all__ = [
    "MAX_MESSAGE_BYTES",
    "SCHEMA_VERSION",
    "Failure",
    "FromWorker",
    "Hello",
    "Job",
    "Jobs",
    "Load",
    "Loaded",
    "Metadata",
    "Outcome",
    "Outcomes",
    "Stop",
    "Tensor",
    "TensorAt",
    "Times",
    "ToWorker",
    "Unload",
    "decode_from_worker",
    "decode_to_worker",
    "encode",
    "metadata_of",
    "wire_metadata",
]

SCHEMA_VERSION = 3

MAX_MESSAGE_BYTES = 16 << 20
"""Of one control message; tensors travel elsewhere."""


class TensorAt(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Where a tensor lies: in the shared file of the generation, or in the file of its call.

    `type` is an index into `tensors.WIRE_DTYPES`; `size` in bytes as stored, which for byte strings is with
    their lengths.
    """

    name: str
    type: int
    shape: tuple[int, ...]
    offset: int
    size: int


class Job(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A call. `number` is the gateway's, `handle` the loaded version; with `own_file` a file was sent."""

    number: int
    handle: int
    id: str
    inputs: list[TensorAt]
    own_file: bool = False
    tenant: str = ""
    priority: int = 5
    arrived_ns: int = 0
    deadline_ns: int | None = None
    start_by_ns: int | None = None
    wanted: tuple[str, ...] = ()
    parameters: dict[str, Any] | None = None
    traceparent: str = ""


class Jobs(msgspec.Struct, tag="jobs", array_like=True, frozen=True, gc=False):
    """What accumulated in one turn of the gateway's loop: calls, then ids to cancel."""

    jobs: list[Job]
    cancel: list[str] = []


class Load(msgspec.Struct, tag="load", array_like=True, frozen=True):
    """Load a version, warm it up, and call it `handle` from now on."""

    handle: int
    spec: VersionSpec


class Unload(msgspec.Struct, tag="unload", array_like=True, frozen=True):
    """Give a version's memory back."""

    handle: int


class Stop(msgspec.Struct, tag="stop", array_like=True, frozen=True):
    """End; with `drain` after what was submitted is done."""

    drain: bool


class Hello(msgspec.Struct, tag="hello", array_like=True, frozen=True):
    """First message of a worker."""

    schema: int
    pid: int
    generation: int


class Failure(msgspec.Struct, array_like=True, frozen=True):
    """A `PlumblineError` on its way. `context` is module, line, function; `title` the docstring of its class,
    empty where it has none.
    """

    code: str
    error_class: str
    recoverability: str
    side_effect: str
    owner: str
    http_status: int
    message: str
    fields: dict[str, Any]
    context: tuple[str, int, str]
    title: str = ""


class Tensor(msgspec.Struct, array_like=True, frozen=True):
    """A `TensorSpec`."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    bounds: tuple[int | None, ...]


class Metadata(msgspec.Struct, array_like=True, frozen=True):
    """A `ModelMetadata`."""

    model: str
    version: str
    kind: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    digest: str
    max_rows: int
    unbatched_because: str
    memory_bytes: int
    memory: dict[str, int]
    memory_unstated: list[str] = []


class Loaded(msgspec.Struct, tag="loaded", array_like=True, frozen=True):
    """Answer to `Load` (with metadata) and `Unload` (without), or why not."""

    handle: int
    metadata: Metadata | None = None
    failure: Failure | None = None
    budget_bytes: int | None = None


Times = tuple[int, int, int, int, int, int, int]
"""arrived_ns, queued_ns, launched_ns, finished_ns, launch, batched, stream."""


class Outcome(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The one outcome of a job: outputs with timing, or a failure.

    `ring_end` is the position behind its outputs in the ring, 0 when they are in a file of their own.
    """

    number: int
    outputs: list[TensorAt]
    ring_end: int
    timing: Times
    failure: Failure | None = None


class Outcomes(msgspec.Struct, tag="done", array_like=True, frozen=True, gc=False):
    """Outcomes in the order of their places in the ring."""

    outcomes: list[Outcome]


ToWorker = Jobs | Load | Unload | Stop
FromWorker = Hello | Loaded | Outcomes


def _decode_hook(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(kind)


_encoder = msgspec.msgpack.Encoder(enc_hook=str)
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker, dec_hook=_decode_hook)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)

encode = _encoder.encode
"""The bytes of a message. What is not plain becomes text, which only parameters and fields can hold."""
decode_to_worker = _to_worker.decode
"""A message to a worker. Raises msgspec.DecodeError or UnicodeDecodeError."""
decode_from_worker = _from_worker.decode
"""A message from a worker. Raises msgspec.DecodeError or UnicodeDecodeError."""


def wire_metadata(metadata: ModelMetadata) -> Metadata:
    """For the way to the gateway."""
    return Metadata(
        model=metadata.ref.model,
        version=metadata.ref.version,
        kind=metadata.kind.value,
        inputs=[_wire_tensor(spec) for spec in metadata.inputs],
        outputs=[_wire_tensor(spec) for spec in metadata.outputs],
        digest=metadata.digest,
        max_rows=metadata.max_rows,
        unbatched_because=metadata.unbatched_because,
        memory_bytes=metadata.memory_bytes,
        memory=dict(metadata.memory),
        memory_unstated=list(metadata.memory_unstated),
    )


def metadata_of(wire: Metadata) -> ModelMetadata:
    """As the worker meant it. Raises ValueError for a kind that there is not."""
    return ModelMetadata(
        ref=VersionRef(model=wire.model, version=wire.version),
        kind=VersionKind(wire.kind),
        inputs=tuple(_tensor_spec(tensor) for tensor in wire.inputs),
        outputs=tuple(_tensor_spec(tensor) for tensor in wire.outputs),
        digest=wire.digest,
        max_rows=wire.max_rows,
        unbatched_because=wire.unbatched_because,
        memory_bytes=wire.memory_bytes,
        memory=wire.memory,
        memory_unstated=tuple(wire.memory_unstated),
    )


def _wire_tensor(spec: TensorSpec) -> Tensor:
    return Tensor(name=spec.name, datatype=spec.datatype, shape=spec.shape, bounds=spec.bounds)


def _tensor_spec(tensor: Tensor) -> TensorSpec:
    return TensorSpec(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape, bounds=tensor.bounds)
