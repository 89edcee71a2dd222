"""Loader, memory, dispatch and results, each tested with the other three absent (L3-16)."""

import threading

import numpy as np
import pytest

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import TensorSpec, VersionKind
from plumbline.contracts.tensors import MAX_CALL_TENSORS, MAX_TENSOR_AXES
from plumbline.engine.dispatch import run_launch
from plumbline.engine.loading import LanesExhausted, open_version
from plumbline.engine.memory import MemoryBudget, MemoryBudgetRefused
from plumbline.engine.outcomes import LaunchDefect, RequestCancelled
from plumbline.engine.requests import AcceptedRequest, LaunchWork, execution_request
from plumbline.engine.result import OutputUndecodable, OutputUnknown, ResultDecoder
from plumbline.engine.session import Admitted
from plumbline.serving.workers import tensors
from plumbline.testing.sessions import EchoSession, echo_call, echo_metadata

A, B = (VersionRef(model=name, version="1") for name in "ab")


# -- memory --------------------------------------------------------------------------------------------------


def test_memory_is_set_aside_and_given_back_to_the_byte():
    budget = MemoryBudget(100)
    budget.reserve(A, 60)
    budget.reserve(B, 40)
    assert (budget.used_bytes, dict(budget.by_version())) == (100, {A: 60, B: 40})
    budget.release(A)
    budget.release(A)
    assert budget.used_bytes == 40
    with pytest.raises(MemoryBudgetRefused, match="61 bytes"):
        budget.reserve(A, 61)
    assert budget.used_bytes == 40


def test_threads_together_never_set_aside_more_than_there_is():
    budget, refused = MemoryBudget(50), []

    def reserve(number):
        try:
            budget.reserve(VersionRef(model=str(number), version="1"), 10)
        except MemoryBudgetRefused:
            refused.append(number)

    threads = [threading.Thread(target=reserve, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (budget.used_bytes, len(refused)) == (50, 15)


def test_without_a_limit_nothing_is_refused():
    budget = MemoryBudget(None)
    budget.reserve(A, 1 << 60)
    assert budget.used_bytes == 1 << 60


# -- loader --------------------------------------------------------------------------------------------------


def test_a_version_is_opened_with_its_instances_and_closed_with_them():
    session = EchoSession(A)
    version = open_version(A, session, instances=2, stream=None, own_streams=iter([]))
    (stage,) = version.stages
    assert (stage.graph, len(stage.free), stage.own_lane, session.opened) == ("a@1", 2, False, 2)
    assert {stage.place_of(i) for i in stage.instances} == {"a@1#0", "a@1#1"}
    version.close()
    assert (session.closed_instances, session.closed) == (2, 1)


def test_an_instance_in_a_launch_is_not_closed_under_it():
    session = EchoSession(A)
    version = open_version(A, session, instances=2, stream=None, own_streams=iter([]))
    version.stages[0].free.popleft()
    version.close()
    assert (session.closed_instances, session.closed) == (1, 0)


def test_a_python_stage_takes_a_number_of_its_own():
    session = EchoSession(A, kind=VersionKind.PYTHON)
    version = open_version(A, session, instances=1, stream=0, own_streams=iter([7]))
    assert (version.stages[0].stream, version.stages[0].own_lane) == (7, True)
    with pytest.raises(LanesExhausted):
        open_version(A, session, instances=1, stream=0, own_streams=iter([]))
    assert session.opened == 1


# -- results -------------------------------------------------------------------------------------------------

Y = np.ones((2, 4), np.float32)


def test_outputs_come_in_declared_order_or_as_wanted():
    decoder = ResultDecoder(echo_metadata(A))
    assert decoder.decode({"y": Y}, ())["y"] is Y
    assert list(decoder.decode({"y": Y}, ("y",))) == ["y"]
    with pytest.raises(OutputUnknown):
        decoder.verify_wanted(("y", "z"))


def test_texts_must_be_bytes_and_bfloat16_travels_as_uint16():
    from dataclasses import replace

    specs = (
        TensorSpec(name="t", datatype="BYTES", shape=(-1,)),
        TensorSpec(name="b", datatype="BF16", shape=(1,)),
    )
    decoder = ResultDecoder(replace(echo_metadata(A), outputs=specs))
    good = {"t": np.array([b"x"], object), "b": np.ones(1, np.uint16)}
    assert list(decoder.decode(good, ())) == ["t", "b"]
    for name, bad in (("t", np.array(["x"], object)), ("b", np.ones(1, np.float32))):
        with pytest.raises(OutputUndecodable, match=name):
            decoder.decode({**good, name: bad}, ())


def test_an_undeclared_output_that_no_call_can_carry_is_the_fault_of_the_version():
    """L3-15: it is found before anything has to send it; the caller did nothing wrong (500)."""
    from dataclasses import replace

    decoder = ResultDecoder(replace(echo_metadata(A), outputs=()))
    for bad in ({"deep": np.zeros((1,) * 33, np.int8)}, {f"y{n}": Y for n in range(1025)}):
        with pytest.raises(OutputUndecodable, match=r"at most (32|1024)") as refused:
            decoder.decode(bad, ())
        assert (refused.value.http_status, refused.value.error_class) == (500, "decoding")
    assert (MAX_TENSOR_AXES, MAX_CALL_TENSORS) == (tensors.MAX_AXES, tensors.MAX_TENSORS)


# -- dispatch ------------------------------------------------------------------------------------------------


class FakeInstance:
    segments = 1

    def __init__(self, results):
        self.results = results

    def run(self, batch, between):
        if isinstance(self.results, Exception):
            raise self.results
        return self.results

    def close(self):
        return None


def launch(results, requests=2):
    session = EchoSession(A)
    version = open_version(A, session, instances=1, stream=None, own_streams=iter([]))
    accepted = []
    for number in range(requests):
        call = echo_call(f"r{number}", A)
        admitted = Admitted(inputs=call.inputs["x"])
        accepted.append(
            AcceptedRequest(
                call=call, version=version, admitted=admitted, on_done=lambda completion: None, queued_ns=1,
                execution=execution_request(call, version, admitted, 1),
            )
        )  # fmt: skip
    return LaunchWork(
        number=0, lane=0, stage=version.stages[0], instance=FakeInstance(results), requests=accepted,
        key=(0,), launched_ns=1, place="a@1#0",
    )  # fmt: skip


def test_each_request_of_a_launch_has_its_own_outcome():
    error = OutputUnknown(version="a", output="b", known="c")
    outcomes = run_launch(launch([{"y": Y}, error]), lambda segment: True)
    assert outcomes[0]["y"] is Y
    assert outcomes[1] is error


@pytest.mark.parametrize(
    ("results", "kind"),
    [
        (None, RequestCancelled),
        ([{"y": Y}], LaunchDefect),
        (ZeroDivisionError("x"), LaunchDefect),
        ([ZeroDivisionError("x")] * 2, LaunchDefect),
        ([{}, {}], OutputUndecodable),
    ],
)
def test_whatever_a_session_does_each_request_gets_a_typed_outcome(results, kind):
    work = launch(results)
    outcomes = run_launch(work, lambda segment: True)
    assert [type(outcome) for outcome in outcomes] == [kind] * 2
    assert work.ended is (results is None)
