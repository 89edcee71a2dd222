"""The sleep of the orchestration loop: no ring is lost, nothing that arrives is slept through."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from plumbline.engine.doorbell import Doorbell, InletDoorbell, LockDoorbell, open_doorbell

HANG_S = 60.0


class PipeInlet:
    """Counts the bytes that arrive at a pipe."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.taken = 0
        self.open = True

    def fileno(self) -> int:
        return self.reader if self.open else -1

    def receive(self) -> None:
        try:
            self.taken += len(os.read(self.reader, 4096))
        except BlockingIOError:
            return


@pytest.fixture
def inlet() -> Iterator[PipeInlet]:
    made = PipeInlet()
    yield made
    os.close(made.reader)
    os.close(made.writer)


@pytest.fixture(params=["lock", "inlet"])
def bell(request: pytest.FixtureRequest, inlet: PipeInlet) -> Iterator[Doorbell]:
    made = open_doorbell(inlet if request.param == "inlet" else None)
    yield made
    made.close()


def test_a_loop_with_an_inlet_has_a_bell_for_it(inlet):
    bell = open_doorbell(inlet)
    assert isinstance(bell, InletDoorbell)
    bell.close()
    assert isinstance(open_doorbell(None), LockDoorbell)


def test_a_ring_before_the_sleep_ends_it(bell):
    """L4-10: what is posted before the loop sleeps is handled before it sleeps."""
    bell.ring()
    bell.ring()
    sleeper = threading.Thread(target=bell.sleep, args=(HANG_S,))
    sleeper.start()
    sleeper.join(HANG_S / 2)
    assert not sleeper.is_alive()


def test_no_ring_is_lost_between_threads(bell):
    """L4-10: each of many rings at any moment ends the sleep that goes on, or the next one."""
    rounds, answered = 2000, threading.Semaphore(0)

    def sleep_and_answer() -> None:
        for _ in range(rounds):
            bell.sleep(HANG_S)
            answered.release()

    sleeper = threading.Thread(target=sleep_and_answer, daemon=True)
    sleeper.start()
    for _ in range(rounds):
        bell.ring()
        assert answered.acquire(timeout=HANG_S / 2)
    sleeper.join(HANG_S)
    assert not sleeper.is_alive()


def test_what_arrives_at_the_inlet_ends_the_sleep(inlet):
    """L4-72: a call is taken in by the thread that will launch it."""
    bell = InletDoorbell(inlet)
    sleeper = threading.Thread(target=bell.sleep, args=(HANG_S,))
    sleeper.start()
    os.write(inlet.writer, b"call")
    sleeper.join(HANG_S / 2)
    assert not sleeper.is_alive()
    bell.collect()
    assert inlet.taken == 4
    bell.close()


def test_a_closed_inlet_leaves_the_bell(inlet):
    inlet.open = False
    bell = InletDoorbell(inlet)
    bell.sleep(0.001)
    bell.ring()
    bell.sleep(HANG_S)
    bell.close()


def test_ringing_after_the_end_is_harmless(bell):
    """L4-20: a lane may report while the loop ends."""
    bell.close()
    bell.ring()
    bell.close()
