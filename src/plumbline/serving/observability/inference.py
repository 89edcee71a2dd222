"""`ObservedInference`: an inference service that is watched; what it answers is what the other answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from plumbline.contracts.clock import Clock
from plumbline.contracts.inference import InferenceCall, InferenceResult
from plumbline.contracts.requests import RequestId
from plumbline.errors import PlumblineError
from plumbline.serving.observability.figures import ServingFigures
from plumbline.serving.ports import InferenceService

__all__ = ["ObservedInference", "RequestObserver"]

RequestObserver = Callable[[InferenceCall, InferenceResult | PlumblineError | None, int], None]
"""Told (call, outcome, now) of each request, absolute monotonic; None: its caller stopped waiting."""


class ObservedInference:
    """Wraps an `InferenceService`: counts, and tells observers of each outcome.

    Args:
        inner: answers.
        figures: are counted.
        clock: the one of arrival and answer.
        observers: such as spans; none by default. They never block and never raise.
    """

    def __init__(
        self,
        inner: InferenceService,
        figures: ServingFigures,
        clock: Clock,
        observers: tuple[RequestObserver, ...] = (),
    ) -> None:
        self._inner, self._figures, self._clock, self._observers = inner, figures, clock, observers

    async def infer(self, call: InferenceCall) -> InferenceResult:
        """The result of the inner service.

        Raises:
            PlumblineError: its error.
        """
        figures = self._figures
        figures.arrived[call.protocol] += 1
        try:
            result = await self._inner.infer(call)
        except PlumblineError as error:
            figures.failed(call, error)
            self._tell(call, error)
            raise
        except asyncio.CancelledError:
            figures.abandoned[call.protocol] += 1
            self._tell(call, None)
            raise
        now_ns = self._clock.now_ns()
        figures.answered(call, result, now_ns)
        for observer in self._observers:
            observer(call, result, now_ns)
        return result

    def cancel(self, request: RequestId) -> bool:
        """Ask for a request to be cancelled."""
        return self._inner.cancel(request)

    def _tell(self, call: InferenceCall, outcome: PlumblineError | None) -> None:
        now_ns = self._clock.now_ns()
        for observer in self._observers:
            observer(call, outcome, now_ns)
