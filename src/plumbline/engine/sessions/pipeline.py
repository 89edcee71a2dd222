"""`PipelineSession`: sessions in a row, wired by tensor names; each stage is scheduled by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from plumbline.contracts.inference import Tensors, VersionRef
from plumbline.contracts.models import ModelMetadata, TensorSpec, VersionKind
from plumbline.contracts.versions import VersionSettings
from plumbline.engine.model import InputRefused
from plumbline.engine.session import Admitted, Instance, RunBoard, RunWatch, Session, watch_runs
from plumbline.errors import ValidationError

__all__ = ["PipelineRefused", "PipelineSession", "PipelineStage"]


@dataclass(eq=False, kw_only=True)
class PipelineRefused(ValidationError):
    """The stages of a pipeline do not fit together."""

    code = "validation.pipeline"
    owner = "engine"
    template = "pipeline {version!r}, stage {stage}: {reason}"

    version: str
    stage: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStage:
    """A session and its wires.

    Attributes:
        session: what runs. Not a pipeline.
        inputs: input of the session -> name of a tensor of the pipeline; an input that is not named here
            takes the tensor of its own name.
        outputs: output of the session -> name that it gets in the pipeline; likewise.
    """

    session: Session
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageInputs:
    """What a stage was admitted with, and every tensor of the pipeline that is known before it ran."""

    admitted: Admitted
    tensors: Tensors


class PipelineSession:
    """A chain such as tokenise -> run -> pool. Owns the sessions of its stages.

    A tensor that a stage needs comes from the request or from an earlier stage; what no stage makes is an
    input of the pipeline. Stages have instances and lanes of their own, so that two requests can be in
    different stages at once.

    Args:
        ref: which version this is.
        stages: in order, at least one; every session declares its inputs and outputs.
        outputs: tensors of the pipeline that are its result; empty for those of the last stage.
        settings: of its version: `segment_bounds_ns` bounds each stage, with what leads to the next one.
        digest: of its content.

    Raises:
        PipelineRefused: a stage makes a tensor that is there already, two stages want the same input in
            different types or shapes, an output is made by nobody, or the settings bound other stages than
            it has.
    """

    def __init__(
        self, ref: VersionRef, stages: Sequence[PipelineStage], *, outputs: Sequence[str] = (),
        settings: VersionSettings | None = None, digest: str = "",
    ) -> None:  # fmt: skip
        self._ref = ref
        bounds_ns = self._stage_bounds(settings or VersionSettings(), len(stages))
        wired = _Wires(ref, stages)
        chosen = tuple(outputs) or tuple(wired.made_by(len(stages) - 1))
        memory: dict[str, int] = {}
        unstated: list[str] = []
        for index, stage in enumerate(stages):
            for part, size_bytes in stage.session.metadata.memory.items():
                memory[f"stage{index}.{part}"] = size_bytes
            unstated += (f"stage{index}.{part}" for part in stage.session.metadata.memory_unstated)
        self.metadata = ModelMetadata(
            ref=ref, kind=VersionKind.PIPELINE, inputs=wired.inputs(), outputs=wired.outputs(chosen),
            digest=digest, unbatched_because="each stage is batched by itself",
            memory_bytes=sum(s.session.metadata.memory_bytes for s in stages), memory=memory,
            memory_unstated=tuple(unstated),
        )  # fmt: skip
        self._wiring, self._outputs = tuple(stages), chosen
        self._inputs = {spec.name for spec in self.metadata.inputs}
        self.stages: Sequence[Session] = tuple(
            StageSession(stage, index, bounds_ns, str(ref)) for index, stage in enumerate(stages)
        )

    def admit(self, inputs: Tensors, parameters: Mapping[str, Any], tenant: str) -> Admitted:
        """The first stage's answer.

        Raises:
            InputRefused: a tensor is missing, or nobody wants it.
            PlumblineError: what the session of the first stage refuses.
        """
        for name in inputs:
            if name not in self._inputs:
                raise self._refused(str(name)[:100], f"unknown; the inputs are: {', '.join(self._inputs)}")
        for name in self._inputs:
            if name not in inputs:
                raise self._refused(name, "it is missing")
        return self.stages[0].admit(inputs, parameters, tenant)

    def open_instance(self) -> Instance:
        """Not for a pipeline: its stages have instances.

        Raises:
            PipelineRefused: always.
        """
        raise PipelineRefused(version=str(self._ref), stage=0, reason="only stages have instances")

    def forward(self, stage: int, request: Admitted, outputs: Tensors) -> Tensors:
        """Every tensor known after a stage; after the last one the result."""
        wires = self._wiring[stage].outputs
        known = {
            **request.inputs.tensors,
            **{wires.get(name, name): array for name, array in outputs.items()},
        }
        if stage + 1 == len(self._wiring):
            return {name: known[name] for name in self._outputs}
        return known

    def example(self) -> Tensors:
        """The example of each stage that takes something of the request."""
        found: dict[str, Any] = {}
        for stage in self._wiring:
            for name, array in stage.session.example().items():
                tensor = stage.inputs.get(name, name)
                if tensor in self._inputs:
                    found.setdefault(tensor, array)
        return found

    def close(self) -> None:
        """Close the session of each stage."""
        for stage in self._wiring:
            stage.session.close()

    def _stage_bounds(self, settings: VersionSettings, stages: int) -> tuple[int, ...]:
        """Calibrated bounds of the stages; none where there are none."""
        bounds_ns = settings.segment_bounds_ns
        if len(bounds_ns) not in (0, stages) or (settings.cost_bound_ns and not bounds_ns):
            reason = f"its settings bound {len(bounds_ns)} stages of {stages}; calibrate the pipeline again"
            raise PipelineRefused(version=str(self._ref), stage=0, reason=reason)
        return bounds_ns

    def _refused(self, name: str, reason: str) -> InputRefused:
        return InputRefused(model=str(self._ref), input=name, reason=reason)


class StageSession:
    """One stage: takes every tensor of the pipeline, gives its session those that it wants."""

    def __init__(self, stage: PipelineStage, index: int, bounds_ns: tuple[int, ...], pipeline: str) -> None:
        self._session, self._index, self._bounds_ns = stage.session, index, bounds_ns
        self._name = f"{pipeline}, stage {index} ({stage.session.metadata.ref})"
        self._wires = {
            spec.name: stage.inputs.get(spec.name, spec.name) for spec in stage.session.metadata.inputs
        }

    @property
    def metadata(self) -> ModelMetadata:
        """Of the session."""
        return self._session.metadata

    @property
    def run_watch(self) -> RunWatch | None:
        """Of the session, where its runs are shown."""
        return getattr(self._session, "run_watch", None)

    def watch_runs(self, board: RunBoard) -> None:
        """Show the runs of the session, if it is one to be watched."""
        watch_runs(self._session, board)

    @property
    def instances(self) -> int | None:
        """As many as the session was planned for; None where it does not say."""
        return getattr(self._session, "instances", None)

    def admit(self, inputs: Tensors, parameters: Mapping[str, Any], tenant: str) -> Admitted:
        """As the session, with the tensors kept for later stages.

        Raises:
            InputRefused: naming pipeline and stage.
        """
        own = {name: inputs[tensor] for name, tensor in self._wires.items()}
        try:
            admitted = self._session.admit(own, parameters, tenant)
        except InputRefused as refused:
            refused.model = self._name
            raise
        return replace(
            admitted, inputs=StageInputs(admitted, inputs), stage=self._index, stage_bounds_ns=self._bounds_ns
        )

    def open_instance(self) -> Instance:
        """One of the session."""
        return StageInstance(self._session.open_instance())

    def example(self) -> Tensors:
        """Of the session."""
        return self._session.example()

    def close(self) -> None:
        """The pipeline closes the session."""


class StageInstance:
    """An instance of a stage's session."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    @property
    def segments(self) -> int:
        """Of the session's instance."""
        return self._instance.segments

    def run(
        self, batch: Sequence[Admitted], between: Callable[[int], bool]
    ) -> Sequence[Tensors | Exception] | None:
        """Run what the session admitted."""
        return self._instance.run([request.inputs.admitted for request in batch], between)

    def close(self) -> None:
        """Close it."""
        self._instance.close()


class _Wires:
    """Follows tensors through the stages of a pipeline and finds what does not fit."""

    def __init__(self, ref: VersionRef, stages: Sequence[PipelineStage]) -> None:
        if not stages:
            raise PipelineRefused(version=str(ref), stage=0, reason="there are no stages")
        self._ref = ref
        self._given: dict[str, TensorSpec] = {}
        self._made: dict[str, tuple[int, TensorSpec]] = {}
        for index, stage in enumerate(stages):
            self._follow(index, stage)

    def inputs(self) -> tuple[TensorSpec, ...]:
        """What a request must give."""
        return tuple(self._given.values())

    def outputs(self, names: Sequence[str]) -> tuple[TensorSpec, ...]:
        """The named tensors."""
        for name in names:
            if name not in self._made:
                raise self._refused(0, f"no stage makes the output {name!r}")
        return tuple(self._made[name][1] for name in names)

    def made_by(self, stage: int) -> list[str]:
        """Tensors of a stage."""
        return [name for name, (maker, _) in self._made.items() if maker == stage]

    def _follow(self, index: int, stage: PipelineStage) -> None:
        metadata = stage.session.metadata
        if metadata.kind is VersionKind.PIPELINE:
            raise self._refused(index, "a stage cannot be a pipeline")
        if not metadata.inputs or not metadata.outputs:
            raise self._refused(index, f"{metadata.ref} does not declare its inputs and outputs")
        self._verify_names(index, stage)
        for spec in metadata.inputs:
            self._take(index, replace(spec, name=stage.inputs.get(spec.name, spec.name)))
        for spec in metadata.outputs:
            name = stage.outputs.get(spec.name, spec.name)
            if name in self._made or name in self._given:
                raise self._refused(index, f"it makes {name!r}, which is there already")
            self._made[name] = (index, replace(spec, name=name))

    def _take(self, index: int, wanted: TensorSpec) -> None:
        known = self._made[wanted.name][1] if wanted.name in self._made else self._given.get(wanted.name)
        if known is None:
            self._given[wanted.name] = wanted
        elif known.datatype != wanted.datatype or not _may_fit(known.shape, wanted.shape):
            raise self._refused(
                index, f"it wants {wanted.name!r} as {wanted.datatype} {wanted.shape}, "
                f"there it is {known.datatype} {known.shape}"
            )  # fmt: skip

    def _verify_names(self, index: int, stage: PipelineStage) -> None:
        metadata = stage.session.metadata
        for wires, specs in ((stage.inputs, metadata.inputs), (stage.outputs, metadata.outputs)):
            for name in wires:
                if name not in {spec.name for spec in specs}:
                    raise self._refused(index, f"{metadata.ref} has no tensor {name!r}")

    def _refused(self, stage: int, reason: str) -> PipelineRefused:
        return PipelineRefused(version=str(self._ref), stage=stage, reason=reason)


def _may_fit(made: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether some tensor has both shapes; -1 is an extent that is not known yet."""
    return len(made) == len(wanted) and all(a == b or -1 in (a, b) for a, b in zip(made, wanted, strict=True))
