"""Runs of classes are shown in shared memory, and held to a limit by whoever reads it."""

from __future__ import annotations

from time import monotonic_ns

from plumbline.serving.workers.journal import Entry, LoadedVersion
from plumbline.serving.workers.limits import MemoryBreach, RunBreach, RunTooLong, WorkerMemoryExceeded
from plumbline.serving.workers.run_board import RunSeats, find_overrun, request_digest
from plumbline.testing.worker_pools import call, spec

SECOND = 1_000_000_000


def words(seats: int = 4) -> memoryview:
    return memoryview(bytearray(seats * 64)).cast("q")


def test_a_run_is_over_its_limit_only_while_it_goes_on() -> None:
    board = words()
    seats = RunSeats(board)
    seat = seats.begin(["a"], 2 * SECOND)
    now_ns = monotonic_ns()
    assert find_overrun(board, now_ns, SECOND) is None
    overrun = find_overrun(board, now_ns + 3 * SECOND, SECOND)
    assert overrun is not None
    assert (overrun.limit_ns, overrun.requests, overrun.digests) == (2 * SECOND, 1, (request_digest("a"),))
    assert "at most 2 s" in overrun.reason
    seats.end(seat)
    assert find_overrun(board, now_ns + 3 * SECOND, SECOND) is None


def test_a_run_without_a_limit_of_its_own_is_held_to_that_of_the_reader() -> None:
    board = words()
    RunSeats(board).begin(["a"], 0)
    overrun = find_overrun(board, monotonic_ns() + 2 * SECOND, SECOND)
    assert overrun is not None
    assert overrun.limit_ns == SECOND


def test_of_several_runs_the_one_that_is_longest_over_is_found() -> None:
    board = words()
    seats = RunSeats(board)
    seats.begin(["patient"], 100 * SECOND)
    seats.begin(["hasty"], SECOND)
    overrun = find_overrun(board, monotonic_ns() + 10 * SECOND, SECOND)
    assert overrun is not None
    assert overrun.digests == (request_digest("hasty"),)


def test_seats_are_used_again_and_a_full_board_shows_no_more() -> None:
    board = words(2)
    seats = RunSeats(board)
    taken = [seats.begin(["a"], SECOND), seats.begin(["b"], SECOND)]
    assert seats.begin(["c"], SECOND) == -1
    seats.end(-1)
    seats.end(taken[0])
    assert seats.begin(["d"], SECOND) == taken[0]


def entry(name: str, seen: int) -> Entry:
    made = spec()
    version = LoadedVersion(handle=1, spec=made, metadata=None)  # type: ignore[arg-type]
    accepted = Entry(1, call(name), version, None)  # type: ignore[arg-type]
    accepted.seen = seen
    return accepted


def breach_of(*names: str) -> RunBreach:
    board = words()
    RunSeats(board).begin(names, SECOND)
    overrun = find_overrun(board, monotonic_ns() + 2 * SECOND, SECOND)
    assert overrun is not None
    return RunBreach(overrun)


def test_the_call_whose_run_it_was_is_failed_with_the_limit_and_others_are_not() -> None:
    breach = breach_of("long")
    outcome = breach.outcome(entry("long", 1))
    assert isinstance(outcome, RunTooLong)
    assert (outcome.limit_s, outcome.request) == (1.0, "long")
    assert breach.outcome(entry("beside", 1)) is None
    assert breach.outcome(entry("beside", 2)) is None


def test_calls_that_shared_a_run_are_blamed_only_when_it_happens_to_them_again() -> None:
    breach = breach_of(*(f"r{number}" for number in range(8)))
    assert breach.overrun.requests == 8
    assert breach.outcome(entry("r1", 1)) is None
    assert isinstance(breach.outcome(entry("r1", 2)), RunTooLong)


def test_memory_blames_a_call_at_the_second_breach_with_size_and_limit() -> None:
    breach = MemoryBreach(300, 200)
    assert breach.outcome(entry("a", 1)) is None
    outcome = breach.outcome(entry("a", 2))
    assert isinstance(outcome, WorkerMemoryExceeded)
    assert (outcome.private_bytes, outcome.limit_bytes) == (300, 200)
