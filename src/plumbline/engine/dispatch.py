"""Dispatch: one launch on one instance, and what it means for each of its requests.

Knows instances and results; no queue, no policy and no lane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from plumbline.contracts.inference import Tensors
from plumbline.engine.outcomes import LaunchDefect, RequestCancelled
from plumbline.engine.requests import AcceptedRequest, LaunchWork, Onward, StageOutcome
from plumbline.errors import PlumblineError

__all__ = ["run_launch"]


def run_launch(work: LaunchWork, between: Callable[[int], bool]) -> Sequence[StageOutcome]:
    """Run a launch and say what came of it, one outcome for each request, in order.

    Never raises: whatever a session raises that is no `PlumblineError` fails this launch as a defect of ours,
    and nothing else.

    Args:
        work: what to run.
        between: as `Instance.run` wants it.
    """
    try:
        results = _run(work, between)
    except PlumblineError as error:
        return [error] * len(work.requests)
    except Exception as error:  # noqa: BLE001 - the engine loop: one launch fails as our defect, the engine goes on
        return [_defect(work, error)] * len(work.requests)
    if results is None:
        work.ended = True
        return [RequestCancelled(request=r.call.id, launched=True) for r in work.requests]
    if len(results) != len(work.requests):
        reason = f"{len(results)} results for {len(work.requests)} requests"
        return [LaunchDefect(graph=work.stage.graph, reason=reason)] * len(work.requests)
    return [_outcome(work, request, given) for request, given in zip(work.requests, results, strict=True)]


def _run(work: LaunchWork, between: Callable[[int], bool]) -> Sequence[Tensors | Exception] | None:
    batch, watch = [request.admitted for request in work.requests], work.stage.watch
    if watch is None:
        return work.instance.run(batch, between)
    seat = watch.board.begin([request.call.id for request in work.requests], watch.limit_ns)
    try:
        return work.instance.run(batch, between)
    finally:
        watch.board.end(seat)


def _outcome(work: LaunchWork, request: AcceptedRequest, given: Tensors | Exception) -> StageOutcome:
    if isinstance(given, PlumblineError):
        return given
    if isinstance(given, Exception):
        return _defect(work, given)
    version, position = request.version, request.admitted.stage
    try:
        if not version.passes_on:
            return version.decoder.decode(given, request.call.wanted)
        checked = work.stage.decoder.decode(given, ())
        passed = version.forward(position, request.admitted, checked)
        if position + 1 == len(version.stages):
            return version.decoder.decode(passed, request.call.wanted)
        session = version.stages[position + 1].session
        return Onward(session.admit(passed, request.call.parameters, request.call.tenant))
    except PlumblineError as error:
        return error
    except Exception as error:  # noqa: BLE001 - as above: one request fails
        return _defect(work, error)


def _defect(work: LaunchWork, error: Exception) -> LaunchDefect:
    defect = LaunchDefect(graph=work.stage.graph, reason=f"{type(error).__name__}: {error}"[:300])
    defect.__cause__ = error
    return defect
