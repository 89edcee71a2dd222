"""A Python class as a version: declarations, stacking, and faults as typed errors (L3-15, X-30, X-31)."""

import threading

import numpy as np
import pytest

from plumbline.contracts.inference import InferenceCall, InferenceResult
from plumbline.contracts.requests import RequestId
from plumbline.contracts.versions import VersionSettings
from plumbline.engine.memory import MemoryBudgetRefused
from plumbline.engine.model import InputRefused
from plumbline.engine.result import OutputUndecodable
from plumbline.engine.sessions.python import ClassFailed, ClassRefused, PythonSession
from plumbline.errors import DecodingError, ExecutionError
from plumbline.testing.sessions import HANG_S, Outcomes

SETTINGS = VersionSettings()


class Doubler:
    inputs = {"x": ("FP32", (-1, 2))}  # noqa: RUF012
    outputs = {"y": ("FP32", (-1, 2))}  # noqa: RUF012
    max_batch = 8

    def setup(self, context):
        self.context = context
        self.calls = []

    def run(self, inputs, parameters):
        self.calls.append(len(inputs["x"]))
        return {"y": inputs["x"] * np.float32(parameters.get("factor", 2))}


def call(name, x, **parameters):
    return InferenceCall(id=RequestId(name), model="python", inputs={"x": x}, parameters=parameters)


def outcome_of(engine, ref, cls, inputs, **parameters):
    scheduler = engine()
    scheduler.load(ref, PythonSession(ref, cls, SETTINGS))
    scheduler.start()
    told = Outcomes()
    scheduler.submit(
        ref, InferenceCall(id=RequestId("r"), model="python", inputs=inputs, parameters=parameters), told
    )
    return told.wait()[0]


def test_a_class_runs_on_a_thread_of_its_own_and_gets_the_parameters(engine, ref):
    seen = []

    class Watched(Doubler):
        def run(self, inputs, parameters):
            seen.append(threading.current_thread().name)
            return super().run(inputs, parameters)

    result = outcome_of(engine, ref, Watched, {"x": np.ones((1, 2), np.float32)}, factor=5)
    assert isinstance(result, InferenceResult)
    assert result.outputs["y"].tolist() == [[5.0, 5.0]]
    assert seen[0].startswith("plumbline engine echo@1")


def test_requests_of_equal_parameters_are_stacked_and_others_are_not(engine, ref):
    entered, gate = threading.Event(), threading.Event()
    sizes = []

    class Gated(Doubler):
        def run(self, inputs, parameters):
            entered.set()
            assert gate.wait(HANG_S)
            sizes.append(len(inputs["x"]))
            return super().run(inputs, parameters)

    scheduler = engine()
    scheduler.load(ref, PythonSession(ref, Gated, SETTINGS))
    scheduler.start()
    told = Outcomes()
    scheduler.submit(ref, call("first", np.zeros((1, 2), np.float32)), told)
    assert entered.wait(HANG_S)
    for number in range(6):
        x = np.full((1, 2), number, np.float32)
        scheduler.submit(ref, call(f"r{number}", x, factor=3 if number % 2 else 2), told)
    gate.set()
    outcomes = {o.id: o for o in told.wait(7)}
    assert sizes == [1, 3, 3]
    for number in range(6):
        expected = number * (3.0 if number % 2 else 2.0)
        assert outcomes[f"r{number}"].outputs["y"].tolist() == [[expected] * 2]


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({}, "missing"),
        ({"x": np.ones((1, 2))}, "FP32"),
        ({"x": np.ones((1, 3), np.float32)}, "shape"),
        ({"x": np.ones((1, 2), np.float32), "z": np.ones(1)}, "unknown"),
    ],
)
def test_inputs_are_held_against_the_declaration(ref, inputs, reason):
    with pytest.raises(InputRefused, match=reason):
        PythonSession(ref, Doubler, SETTINGS).admit(inputs, {}, "local")


def test_an_exception_in_run_is_an_execution_error_that_repeats_no_text_of_it(engine, ref):
    class Failing(Doubler):
        def run(self, inputs, parameters):
            raise KeyError("secret of a client")

    error = outcome_of(engine, ref, Failing, {"x": np.ones((1, 2), np.float32)})
    assert isinstance(error, ClassFailed)
    assert isinstance(error, ExecutionError)
    assert (error.class_name, error.exception, error.function) == ("Failing", "KeyError", "run")
    assert "secret" not in error.message


def test_a_class_cannot_change_what_the_stages_behind_it_read(engine, ref):
    """A stage that wrote into its input gave later stages of its pipeline other numbers, and no error."""
    given = np.ones((1, 2), np.float32)

    class Writer(Doubler):
        def run(self, inputs, parameters):
            with pytest.raises(ValueError, match="read-only"):
                inputs["x"][:] = 7
            return super().run(inputs, parameters)

    result = outcome_of(engine, ref, Writer, {"x": given})
    assert result.outputs["y"].tolist() == [[2.0, 2.0]]
    assert given.tolist() == [[1.0, 1.0]]
    assert given.flags.writeable


@pytest.mark.parametrize(
    "outputs",
    [None, [1], {}, {"y": [1.0]}, {"y": np.ones((1, 2))}, {"z": np.ones((1, 2), np.float32)}],
)
def test_what_run_returns_is_checked_and_a_misfit_is_a_decoding_error(engine, ref, outputs):
    class Odd(Doubler):
        def run(self, inputs, parameters):
            return outputs

    error = outcome_of(engine, ref, Odd, {"x": np.ones((1, 2), np.float32)})
    assert isinstance(error, OutputUndecodable)
    assert isinstance(error, DecodingError)


def test_a_class_without_declarations_takes_and_gives_any_arrays(engine, ref):
    class Free:
        def run(self, inputs, parameters):
            return {"shape": np.array(inputs["a"].shape, np.int64), "text": np.array([b"x"], object)}

    result = outcome_of(engine, ref, Free, {"a": np.zeros((2, 3, 4), np.int8)})
    assert result.outputs["shape"].tolist() == [2, 3, 4]
    assert result.outputs["text"].tolist() == [b"x"]


def test_a_class_without_declarations_may_not_give_what_the_protocol_cannot_carry(engine, ref):
    class Odd:
        def run(self, inputs, parameters):
            return {"when": np.array(["2020-01-01"], "datetime64[D]")}

    assert isinstance(outcome_of(engine, ref, Odd, {}), OutputUndecodable)


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_a_class_that_ends_its_program_fails_its_request_alone(engine, ref, raised):
    """X-31: `sys.exit` ends the thread that calls it; the request would wait for ever."""

    class Leaving(Doubler):
        def run(self, inputs, parameters):
            if inputs["x"][0, 0] == 13:
                raise raised
            return super().run(inputs, parameters)

    scheduler = engine()
    scheduler.load(ref, PythonSession(ref, Leaving, SETTINGS))
    scheduler.start()
    told = Outcomes()
    scheduler.submit(ref, call("leaves", np.full((1, 2), 13, np.float32)), told)
    error = told.wait()[0]
    assert isinstance(error, ClassFailed)
    assert type(raised).__name__ in error.message
    scheduler.submit(ref, call("stays", np.ones((1, 2), np.float32)), told)
    assert isinstance(told.wait(2)[1], InferenceResult)


def test_a_setup_that_ends_its_program_refuses_the_load(engine, ref):
    class Leaving(Doubler):
        def setup(self, context):
            raise SystemExit

    with pytest.raises(ClassFailed, match=r"setup.*SystemExit"):
        engine().load(ref, PythonSession(ref, Leaving, SETTINGS))


def test_a_setup_that_raises_refuses_the_load(engine, ref):
    class Broken(Doubler):
        def setup(self, context):
            raise FileNotFoundError("weights")

    scheduler = engine()
    with pytest.raises(ClassFailed, match=r"setup.*FileNotFoundError: weights"):
        scheduler.load(ref, PythonSession(ref, Broken, SETTINGS))
    assert scheduler.status().versions == {}


@pytest.mark.parametrize(
    "attributes",
    [
        {"run": None},
        {"inputs": [("x", "FP32")]},
        {"inputs": {"x": ("FLOAT", (1,))}},
        {"inputs": {"x": ("FP32", (-2,))}},
        {"inputs": {"x": ("FP32", (4,))}},
        {"max_batch": -1},
        {"max_batch": True},
        {"inputs": None},
    ],
)
def test_a_class_that_makes_no_sense_is_refused(ref, attributes):
    with pytest.raises(ClassRefused, match="Odd"):
        PythonSession(ref, type("Odd", (Doubler,), attributes), SETTINGS)


def test_each_instance_has_its_own_object_and_is_closed(engine, ref):
    made, closed = [], []

    class Counted(Doubler):
        def setup(self, context):
            super().setup(context)
            made.append(self)

        def close(self):
            closed.append(self)

    scheduler = engine()
    scheduler.load(ref, PythonSession(ref, Counted, SETTINGS), instances=3)
    assert len(set(made)) == 3
    assert made[0].context.ref == ref
    scheduler.unload(ref)
    assert set(closed) == set(made)


# -- memory (L3-07) ------------------------------------------------------------------------------------------


class Sized(Doubler):
    memory_bytes = 1000


def test_what_a_class_states_of_its_memory_is_counted_for_every_instance(ref):
    metadata = PythonSession(ref, Sized, VersionSettings(instances=3)).metadata
    assert dict(metadata.memory) == {"objects": 3000}
    assert metadata.stated_memory_bytes == metadata.memory_bytes == 3000
    assert not metadata.memory_unstated


def test_version_toml_states_the_memory_in_place_of_the_class(ref):
    for cls in (Sized, Doubler):
        metadata = PythonSession(ref, cls, VersionSettings(memory_bytes=70)).metadata
        assert metadata.memory_bytes == 70


def test_memory_that_a_class_does_not_state_is_not_stated_rather_than_nothing(ref):
    metadata = PythonSession(ref, Doubler, SETTINGS).metadata
    assert metadata.stated_memory_bytes is None
    assert metadata.memory_unstated == ("objects",)
    assert not metadata.memory


@pytest.mark.parametrize("stated", [0, -1, True, 1.5, "1 GiB", 1 << 51, None.__class__])
def test_memory_that_is_no_number_of_bytes_is_refused(ref, stated):
    class Wrong(Doubler):
        memory_bytes = stated

    with pytest.raises(ClassRefused, match="memory_bytes is no whole number"):
        PythonSession(ref, Wrong, SETTINGS)


def test_stated_memory_above_the_budget_is_refused_before_setup_runs(engine, ref):
    class Eager(Sized):
        def setup(self, context):
            raise AssertionError("it does not fit")

    scheduler = engine(budget_bytes=2500)
    scheduler.start()
    with pytest.raises(MemoryBudgetRefused, match="needs 3000 bytes"):
        scheduler.load(ref, PythonSession(ref, Eager, VersionSettings(instances=3)), instances=3)
    scheduler.load(ref, PythonSession(ref, Sized, VersionSettings(instances=2)), instances=2)
    assert scheduler.status().memory_bytes == 2000


@pytest.mark.parametrize(
    ("attribute", "value", "said"), [("inputs", None, "None"), ("outputs", [], "a list")]
)
def test_a_declaration_that_is_none_is_refused_and_not_taken_for_no_declaration(ref, attribute, value, said):
    """A class whose declaration went wrong was ready, and took whatever came."""

    class Undecided:
        def run(self, inputs, parameters):
            return {}

    PythonSession(ref, Undecided, SETTINGS)
    setattr(Undecided, attribute, value)
    with pytest.raises(ClassRefused, match=f"{attribute} is {said}, expected a mapping"):
        PythonSession(ref, Undecided, SETTINGS)
