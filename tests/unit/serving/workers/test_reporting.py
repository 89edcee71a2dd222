"""Errors cross as data and come out as what they were (X-33..X-35)."""

from __future__ import annotations

import pickle

import msgspec

from plumbline.engine.outcomes import DeadlineMissed, EngineFailed, EngineStopped
from plumbline.errors import ErrorClass, PlumblineError, Recoverability
from plumbline.serving.gateway.problems import problem_document
from plumbline.serving.workers import protocol
from plumbline.serving.workers.failures import CallRefused, WorkerBroken, WorkerReported
from plumbline.serving.workers.reporting import as_plumbline, rebuild, report


def over_the_wire(error: PlumblineError) -> PlumblineError:
    loaded = protocol.Loaded(1, failure=report(error))
    message = protocol.decode_from_worker(protocol.encode(loaded))
    assert isinstance(message, protocol.Loaded)
    assert message.failure is not None
    return rebuild(message.failure)


def test_a_known_error_is_of_its_class_with_its_fields_and_context() -> None:
    missed = DeadlineMissed(
        request="r", limit="deadline", limit_ns=5, arrived_ns=1, expired_ns=6, waited_ns=5
    )
    again = over_the_wire(missed)
    assert type(again) is DeadlineMissed
    assert again.fields() == missed.fields()
    assert again.context == missed.context
    assert over_the_wire(EngineFailed(reason="x")).recoverability is Recoverability.FATAL
    assert over_the_wire(EngineStopped(retry_after_s=0.5)).fields() == {"retry_after_s": 0.5}


def test_an_unknown_error_answers_as_its_class_would_and_pickles() -> None:
    failure = protocol.Failure(
        "somewhere.else", "policy", "transient", "none", "somebody", 429, "slow down",
        {"retry_after_s": 2, "n": 1}, ("m", 3, "f"),
    )  # fmt: skip
    error = rebuild(failure)
    assert isinstance(error, WorkerReported)
    assert (error.code, error.http_status, error.message) == ("somewhere.else", 429, "slow down")
    assert (error.error_class, error.recoverability) == (ErrorClass.POLICY, Recoverability.TRANSIENT)
    assert error.retry_after_s == 2.0
    assert pickle.loads(pickle.dumps(error)).code == "somewhere.else"


def test_an_error_has_the_title_of_its_class_wherever_it_was_found() -> None:
    """A problem document of one code reads alike, whether this process knows the class or not."""
    here = problem_document(EngineFailed(reason="x"), "r", with_error_member=False)
    away = rebuild(msgspec.structs.replace(report(EngineFailed(reason="x")), code="not.known.here"))
    assert isinstance(away, WorkerReported)
    there = problem_document(away, "r", with_error_member=False)
    assert there["title"] == here["title"]
    assert there["title"] == " ".join((EngineFailed.__doc__ or "").strip().split("\n\n")[0].split())
    titleless = rebuild(msgspec.structs.replace(report(away), code="not.known.here", title=""))
    assert problem_document(titleless, "r", with_error_member=False)["title"].startswith(
        "An error of a worker"
    )


def test_a_failure_of_nonsense_is_still_an_error() -> None:
    failure = protocol.Failure(
        "resource.deadline_missed", "no class", "never", "what", "?", 99, "x", {"request": 5}, ("", 0, "")
    )
    error = rebuild(failure)
    assert isinstance(error, WorkerReported)
    assert error.http_status == 500
    assert error.recoverability is Recoverability.PERMANENT


def test_fields_of_any_size_stay_out_of_the_message() -> None:
    failure = report(CallRefused(request="r", reason="x" * 1_000_000))
    assert len(protocol.encode(protocol.Loaded(1, failure=failure))) < 65536


def test_what_is_not_typed_becomes_a_broken_worker_without_its_text_unbounded() -> None:
    error = as_plumbline(ZeroDivisionError("y" * 100_000), "load")
    assert isinstance(error, WorkerBroken)
    assert error.kind == "ZeroDivisionError"
    assert len(error.reason) < 10_000
