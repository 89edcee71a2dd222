"""`StageChain`: every stage of a session with an instance of its own, run in order as the engine does.

For measuring: there is no queue, no lane and no policy between two stages, only what a request pays anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import cast

from plumbline.contracts.inference import Tensors
from plumbline.engine.loading import stage_sessions
from plumbline.engine.result import ResultDecoder
from plumbline.engine.session import Admitted, Session, SessionStage

__all__ = ["StageChain"]

TENANT = "calibration"


class StageChain:
    """Owns one instance of each stage. Used on one thread at a time.

    Args:
        session: one of several stages, or of one.

    Raises:
        PlumblineError: an instance cannot be opened; those that were opened are closed again.
    """

    def __init__(self, session: Session) -> None:
        self._session, self._stages = session, stage_sessions(session)
        self._decoders = [ResultDecoder(stage.metadata) for stage in self._stages]
        with ExitStack() as opened:
            self._instances = []
            for stage in self._stages:
                instance = stage.open_instance()
                opened.callback(instance.close)
                self._instances.append(instance)
            self._opened = opened.pop_all()

    def __len__(self) -> int:
        """How many stages."""
        return len(self._stages)

    @property
    def example(self) -> Admitted:
        """The session's own inputs, admitted to the first stage.

        Raises:
            PlumblineError: the session refuses its own example.
        """
        return self._session.admit(self._session.example(), {}, TENANT)

    def run_stage(self, position: int, request: Admitted, between: Callable[[int], bool]) -> Admitted | None:
        """Run one stage, and make what the next one wants, as a launch of the engine does.

        Returns:
            The request for the next stage; None after the last one, or where `between` ended the run.

        Raises:
            Exception: whatever the stage raised, or gave the request as its own.
        """
        results = self._instances[position].run([request], between)
        if results is None:
            return None
        (given,) = results
        if isinstance(given, Exception):
            raise given
        checked = self._decoders[position].decode(given, ())
        if len(self._stages) == 1:
            return None
        passed: Tensors = cast(SessionStage, self._session).forward(position, request, checked)
        if position + 1 == len(self._stages):
            return None
        return self._stages[position + 1].admit(passed, {}, TENANT)

    def run(self, request: Admitted, between: Callable[[int], bool]) -> None:
        """Run every stage in order. Raises as `run_stage`."""
        following: Admitted | None = request
        for position in range(len(self._stages)):
            if following is None:
                return
            following = self.run_stage(position, following, between)

    def close(self) -> None:
        """Close the instances."""
        self._opened.close()
