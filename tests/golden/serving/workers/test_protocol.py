"""Bytes of every message, held in a file: who changes them changes `SCHEMA_VERSION` too."""

from __future__ import annotations

from pathlib import Path

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import ModelMetadata, TensorSpec, VersionKind
from plumbline.contracts.versions import VersionSettings, VersionSpec
from plumbline.engine.outcomes import RequestCancelled
from plumbline.errors import ErrorContext
from plumbline.serving.workers import protocol
from plumbline.serving.workers.reporting import report

GOLDEN = Path(__file__).parent / "messages.golden"


def spec() -> VersionSpec:
    settings = VersionSettings(instances=2, symbols={"batch": 8}, segment_bounds_ns=(5, 6))
    return VersionSpec(
        ref=VersionRef(model="m", version="1"),
        kind=VersionKind.PIPELINE,
        folder=Path("/versions/m"),
        entry="model.onnx",
        digest="ab",
        settings=settings,
        stages=(
            VersionSpec(
                ref=VersionRef(model="s", version="2"),
                kind=VersionKind.TEXT,
                folder=Path("/versions/s"),
                entry=".",
                digest="cd",
            ),
        ),
    )


def metadata() -> ModelMetadata:
    tensor = TensorSpec(name="x", datatype="FP32", shape=(-1, 4), bounds=(8, 4))
    return ModelMetadata(
        ref=VersionRef(model="m", version="1"), kind=VersionKind.MODEL, inputs=(tensor,), outputs=(tensor,),
        digest="ab", max_rows=8, memory_bytes=10, memory={"weights": 10},
    )  # fmt: skip


def messages() -> dict[str, protocol.ToWorker | protocol.FromWorker]:
    place = protocol.TensorAt("x", 11, (2, 4), 4096, 32)
    error = RequestCancelled(request="r", launched=False)
    error.context = ErrorContext(module="m", line=1, function="f")
    job = protocol.Job(7, 1, "r", [place], False, "t", 5, 1, 2, None, ("x",), {"a": [1, "b"]}, "trace")
    return {
        "jobs": protocol.Jobs([job], ["other"]),
        "load": protocol.Load(1, spec()),
        "unload": protocol.Unload(1),
        "stop": protocol.Stop(True),
        "hello": protocol.Hello(protocol.SCHEMA_VERSION, 42, 3),
        "loaded": protocol.Loaded(1, protocol.wire_metadata(metadata()), None, 100),
        "refused": protocol.Loaded(1, None, report(error)),
        "done": protocol.Outcomes([protocol.Outcome(7, [place], 64, (1, 2, 3, 4, 5, 6, 0))]),
        "failed": protocol.Outcomes([protocol.Outcome(7, [], 0, (0,) * 7, report(error))]),
    }


def test_messages_are_written_as_the_golden_file_has_them() -> None:
    lines = [f"schema {protocol.SCHEMA_VERSION}"]
    lines += [f"{name} {protocol.encode(message).hex()}" for name, message in messages().items()]
    assert GOLDEN.read_text().splitlines() == lines


def test_messages_read_back_are_what_was_written() -> None:
    for name, message in messages().items():
        decode = (
            protocol.decode_to_worker
            if name in ("jobs", "load", "unload", "stop")
            else protocol.decode_from_worker
        )
        assert decode(protocol.encode(message)) == message


def test_metadata_crosses_unchanged() -> None:
    assert protocol.metadata_of(protocol.wire_metadata(metadata())) == metadata()
