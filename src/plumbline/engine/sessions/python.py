"""`PythonSession`: a class with `setup` and `run` as a version. Its launches have threads of their own.

    class Upper:
        inputs = {"text": ("BYTES", (-1,))}          optional; without it any inputs are taken
        outputs = {"text": ("BYTES", (-1,))}         optional; without it any outputs are given
        max_batch = 8                                optional; rows of one launch, 0 for no batching
        memory_bytes = 2 * 2**20                     optional; of one object, counted against the budget

        def setup(self, context): ...                once for each instance; optional
        def run(self, inputs, parameters): ...       name -> array in, name -> array out
        def close(self): ...                         optional

With `max_batch` the author promises that rows (axis 0 of every input and output) do not depend on each other:
requests with equal parameters and equal other extents are stacked, and what comes back is cut into rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from plumbline.contracts.inference import Tensors, VersionRef
from plumbline.contracts.models import ModelMetadata, TensorSpec, VersionKind
from plumbline.contracts.versions import VersionSettings
from plumbline.engine.datatypes import numpy_of
from plumbline.engine.model import InputRefused
from plumbline.engine.result import OutputUndecodable
from plumbline.engine.session import Admitted, Instance, RunBoard, RunWatch
from plumbline.engine.sessions.faults import fault_text
from plumbline.engine.sessions.forks import call_in_this_process
from plumbline.errors import ExecutionError, PlumblineError, Recoverability, ValidationError
from plumbline.scheduling.request import BatchTerms

__all__ = ["ClassFailed", "ClassRefused", "PythonSession", "SetupContext"]

OBJECTS = "objects"
"""The part of the memory of a version that the objects of its class take."""
MAX_MEMORY_BYTES = 1 << 50
_BEFORE_CLIENTS = frozenset({"__init__", "setup"})
"""Functions that never see what a client sent."""


@dataclass(eq=False, kw_only=True)
class ClassRefused(ValidationError):
    """The class of a version cannot be served."""

    code = "validation.python_class"
    owner = "engine"
    template = "class {class_name!r} of version {version!r}: {reason}"

    version: str
    class_name: str
    reason: str


@dataclass(eq=False, kw_only=True)
class ClassFailed(ExecutionError):
    """`setup`, `run` or `close` of a class raised. The cause is chained. Text and line of what `__init__` or
    `setup` raised are repeated, and of `run` on the example of a load; the text of others is not, it may hold
    what a client sent.
    """

    code = "execution.python_class"
    owner = "engine"
    template = "{function} of class {class_name!r} of version {version!r} raised {exception}"

    version: str
    class_name: str
    function: str
    exception: str

    def repeat_text(self, folders: Sequence[Path]) -> None:
        """Say text and line of what the class raised, for whoever knows that no client's input was there.

        Args:
            folders: of the version and its stages, whose files are named.
        """
        if self.__cause__ is not None:
            self.exception = fault_text(self.__cause__, folders)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupContext:
    """What `setup` is told: which version, its private folder (None in library use), and its settings."""

    ref: VersionRef
    folder: Path | None
    settings: VersionSettings


@dataclass(frozen=True, slots=True)
class ClassInputs:
    """Checked arrays, the parameters, and the rows (0: alone)."""

    arrays: Mapping[str, np.ndarray]
    parameters: Mapping[str, Any]
    rows: int


class PythonSession:
    """Requests on a class. Makes one object for each instance.

    Args:
        ref: which version this is.
        cls: the class.
        settings: of the version.
        folder: its private copy, for `setup`.
        digest: of its content.

    Raises:
        ClassRefused: it has no `run`, or its declarations make no sense.
    """

    def __init__(
        self, ref: VersionRef, cls: type, settings: VersionSettings, *, folder: Path | None = None,
        digest: str = "",
    ) -> None:  # fmt: skip
        self._ref, self._class, self._settings, self._folder = ref, cls, settings, folder
        if not callable(getattr(cls, "run", None)):
            raise self._refuse("it has no function run(inputs, parameters)")
        inputs, outputs = (self._declared(name) for name in ("inputs", "outputs"))
        rows = getattr(cls, "max_batch", 0)
        if not isinstance(rows, int) or isinstance(rows, bool) or rows < 0:
            raise self._refuse("max_batch is no whole number from 0 on")
        if rows and not inputs:
            raise self._refuse("max_batch needs declared inputs")
        if rows and any(not spec.shape or spec.shape[0] != -1 for spec in (*inputs, *outputs)):
            raise self._refuse("max_batch needs -1 on axis 0 of every input and output")
        self.run_watch: RunWatch | None = None
        self._rows = min(rows, settings.max_batch or rows)
        memory = self._stated_memory()
        self._cost_ns = sum(settings.segment_bounds_ns) or settings.cost_bound_ns
        self.metadata = ModelMetadata(
            ref=ref, kind=VersionKind.PYTHON, inputs=inputs, outputs=outputs, digest=digest,
            max_rows=self._rows,
            unbatched_because="" if self._rows else f"class {cls.__name__} declares no max_batch",
            memory_bytes=sum(memory.values()), memory=memory,
            memory_unstated=() if memory else (OBJECTS,),
        )  # fmt: skip

    def watch_runs(self, board: RunBoard) -> None:
        """Show its runs on this board from now on, with the limit of its settings."""
        limit_ns = int((self._settings.max_run_s or 0.0) * 1e9)
        self.run_watch = RunWatch(board=board, limit_ns=limit_ns)

    @property
    def instances(self) -> int:
        """Instances that its memory is planned for."""
        return self._settings.instances

    def admit(self, inputs: Tensors, parameters: Mapping[str, Any], tenant: str) -> Admitted:
        """Check inputs against the declaration.

        Raises:
            InputRefused: naming the input and what is wrong with it.
        """
        if self.metadata.inputs:
            self._verify(inputs)
        rows = self._rows_of(inputs)
        batch = None
        if 0 < rows <= self._rows:
            batch = BatchTerms(
                key=self._batch_key(inputs, parameters, tenant), units=rows, max_units=self._rows,
                max_requests=self._rows, max_delay_ns=self._settings.max_delay_ns,
            )  # fmt: skip
        return Admitted(
            inputs=ClassInputs(inputs, parameters, rows), batch=batch, cost_bound_ns=self._cost_ns,
            segment_bounds_ns=self._settings.segment_bounds_ns,
        )  # fmt: skip

    def open_instance(self) -> Instance:
        """An object of the class, after its `setup`.

        Raises:
            ClassFailed: the class raised.
        """
        served = self.guard("__init__", self._class)
        setup = getattr(served, "setup", None)
        if callable(setup):
            context = SetupContext(ref=self._ref, folder=self._folder, settings=self._settings)
            self.guard("setup", lambda: setup(context))
        return PythonInstance(self, served)

    def example(self) -> Tensors:
        """Zeros, or empty byte strings, with 1 where an extent is open."""
        return {spec.name: _blank(spec) for spec in self.metadata.inputs}

    def close(self) -> None:
        """Nothing to give back."""

    def guard(self, function: str, call: Callable[[], Any]) -> Any:
        """The result of a call into the class.

        Raises:
            ClassFailed: it raised, `SystemExit` included, which would end a thread of the engine; a
                `PlumblineError` that is not fatal goes through as it is.
        """
        try:
            return call_in_this_process(call)
        except BaseException as error:  # the engine: one unit of work fails
            if isinstance(error, PlumblineError) and error.recoverability is not Recoverability.FATAL:
                raise
            said = type(error).__name__
            if function in _BEFORE_CLIENTS:
                said = fault_text(error, () if self._folder is None else (self._folder,))
            raise ClassFailed(
                version=str(self._ref), class_name=self._class.__name__, function=function, exception=said
            ) from error

    def _declared(self, attribute: str) -> tuple[TensorSpec, ...]:
        declared = getattr(self._class, attribute, {})
        if not isinstance(declared, Mapping):
            found = "None" if declared is None else f"a {type(declared).__name__}"
            wanted = "expected a mapping of name to (datatype, shape); leave it out where anything goes"
            raise self._refuse(f"{attribute} is {found}, {wanted}")
        return tuple(self._spec(attribute, name, facts) for name, facts in declared.items())

    def _spec(self, attribute: str, name: object, facts: object) -> TensorSpec:
        match facts:
            case (str() as datatype, tuple() | list() as shape) if isinstance(name, str) and name:
                whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= -1 for n in shape)
                if numpy_of(datatype) is not None and whole:
                    return TensorSpec(name=name, datatype=datatype, shape=tuple(shape))
        raise self._refuse(f"{attribute} declares {str(name)[:60]!r} not as (datatype, shape)")

    def _stated_memory(self) -> dict[str, int]:
        """Bytes of all objects, by what `version.toml` or else the class states of one; empty for neither."""
        each = self._settings.memory_bytes
        if each is None:
            each = getattr(self._class, "memory_bytes", None)
        if each is None:
            return {}
        if not isinstance(each, int) or isinstance(each, bool) or not 1 <= each <= MAX_MEMORY_BYTES:
            raise self._refuse(f"memory_bytes is no whole number from 1 to {MAX_MEMORY_BYTES}")
        return {OBJECTS: each * self._settings.instances}

    def _verify(self, inputs: Tensors) -> None:
        declared = {spec.name: spec for spec in self.metadata.inputs}
        for name in inputs:
            if name not in declared:
                raise self._bad(str(name)[:100], f"unknown; the inputs are: {', '.join(declared)}")
        for name, spec in declared.items():
            array = inputs.get(name)
            if array is None:
                raise self._bad(name, "it is missing")
            if not isinstance(array, np.ndarray) or array.dtype != numpy_of(spec.datatype):
                raise self._bad(name, f"expected an array of {spec.datatype}")
            if array.ndim != len(spec.shape) or any(
                wanted not in (-1, extent) for wanted, extent in zip(spec.shape, array.shape, strict=True)
            ):
                raise self._bad(name, f"shape {array.shape}, expected {spec.shape}")

    def _rows_of(self, inputs: Tensors) -> int:
        if not self._rows:
            return 0
        rows = {len(array) for array in inputs.values()}
        if len(rows) > 1:
            raise self._bad(next(iter(inputs)), f"inputs differ in rows: {sorted(rows)}")
        return rows.pop()

    def _batch_key(self, inputs: Tensors, parameters: Mapping[str, Any], tenant: str) -> str:
        shapes = ",".join(f"{name}{array.shape[1:]}" for name, array in sorted(inputs.items()))
        owner = tenant if self._settings.separate_tenants else ""
        return f"{self._ref}|{shapes}|{json.dumps(dict(parameters), sort_keys=True, default=repr)}|{owner}"

    def _bad(self, name: str, reason: str) -> InputRefused:
        return InputRefused(model=str(self._ref), input=name, reason=reason)

    def _refuse(self, reason: str) -> ClassRefused:
        return ClassRefused(version=str(self._ref), class_name=self._class.__name__, reason=reason)


class PythonInstance:
    """One object of a class. One launch at a time, always on a lane of its session."""

    segments = 1

    def __init__(self, session: PythonSession, served: Any) -> None:
        self._session, self._served = session, served

    def run(
        self, batch: Sequence[Admitted], between: Callable[[int], bool]
    ) -> Sequence[Tensors | Exception] | None:
        """Call `run`; several requests are stacked and their results cut apart.

        Raises:
            ClassFailed: the class raised.
            OutputUndecodable: outputs of a stacked launch do not have its rows.
        """
        requests: list[ClassInputs] = [admitted.inputs for admitted in batch]
        first = requests[0]
        arrays = first.arrays
        if len(requests) > 1:
            arrays = {name: np.concatenate([r.arrays[name] for r in requests]) for name in first.arrays}
        shown = {name: _read_only(array) for name, array in arrays.items()}
        outputs = self._session.guard("run", lambda: self._served.run(shown, dict(first.parameters)))
        if len(requests) == 1:
            return [outputs]
        return self._cut(outputs, [request.rows for request in requests])

    def close(self) -> None:
        """Call `close` of the object, if it has one.

        Raises:
            ClassFailed: it raised.
        """
        close = getattr(self._served, "close", None)
        if callable(close):
            self._session.guard("close", close)

    def _cut(self, outputs: object, rows: Sequence[int]) -> list[Tensors | Exception]:
        version, total = str(self._session.metadata.ref), sum(rows)
        if not isinstance(outputs, Mapping):
            reason = f"run returned a {type(outputs).__name__}, expected a mapping"
            raise OutputUndecodable(version=version, output="*", reason=reason)
        for name, array in outputs.items():
            if not isinstance(array, np.ndarray) or array.ndim == 0 or len(array) != total:
                reason = f"expected an array with the {total} rows of the launch on axis 0"
                raise OutputUndecodable(version=version, output=str(name)[:100], reason=reason)
        ends = list(accumulate(rows))
        return [
            {name: array[begin:end].copy() for name, array in outputs.items()}
            for begin, end in zip([0, *ends], ends, strict=False)
        ]


def _blank(spec: TensorSpec) -> np.ndarray:
    shape = tuple(1 if extent < 0 else extent for extent in spec.shape)
    if spec.datatype == "BYTES":
        return np.full(shape, b"", object)
    return np.zeros(shape, numpy_of(spec.datatype))


def _read_only(array: np.ndarray) -> np.ndarray:
    """A view that refuses writes: later stages of a pipeline read the same values."""
    shown = array.view()
    shown.flags.writeable = False
    return shown
