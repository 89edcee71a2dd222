"""Collectives between real processes (L1-08)."""

import os
import subprocess
import sys

import numpy as np
import pytest

from plumbline.execution.collectives import CollectiveArrayError, CollectiveGroup, Reduction
from plumbline.execution.rendezvous import (
    CollectiveMismatchError,
    GroupSizeError,
    PeerLostError,
    Rendezvous,
)

SLOT_BYTES = 256  # small, so that arrays travel in several parts

PROLOGUE = '''
import pathlib, sys, time
import numpy as np
from plumbline.errors import PlumblineError
from plumbline.execution.collectives import CollectiveGroup, Reduction
from plumbline.execution.rendezvous import GroupTicket
ticket = GroupTicket.from_text(sys.argv[1])
def data(rank, dtype="float32"):
    return np.random.default_rng(rank).standard_normal(1000).astype(dtype)
def stay(*ranks):
    """Until each of them has said what it saw: who leaves earlier is a lost peer too, and may be named."""
    pathlib.Path(sys.argv[3], str(ticket.rank)).touch()
    until = time.monotonic() + 120
    while time.monotonic() < until and not all(pathlib.Path(sys.argv[3], str(r)).exists() for r in ranks):
        time.sleep(0.005)
with CollectiveGroup(ticket, timeout_s=float(sys.argv[2])) as group:
'''


HANG_S = 120


def start_ranks(size, body, *, timeout_s=60.0, meeting=""):
    code = PROLOGUE + "".join(f"    {line}\n" for line in body.strip().splitlines())
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with Rendezvous(size=size, slot_bytes=SLOT_BYTES) as rendezvous:
        return [
            subprocess.Popen(
                [sys.executable, "-c", code, ticket.to_text(), str(timeout_s), str(meeting)],
                pass_fds=ticket.descriptors,
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for ticket in rendezvous.tickets
        ]


def outputs_of(processes):
    outputs = [process.communicate(timeout=HANG_S)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return outputs


def rank_data(rank, dtype="float32"):
    return np.random.default_rng(rank).standard_normal(1000).astype(dtype)


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_reduce_equals_a_plain_sum_in_rank_order_on_every_rank(size, dtype):
    body = f"""
array = data(ticket.rank, {dtype!r})
group.all_reduce(array, Reduction.SUM)
print(array.tobytes().hex())
"""
    expected = rank_data(0, dtype)
    for rank in range(1, size):
        expected = expected + rank_data(rank, dtype)
    assert outputs_of(start_ranks(size, body)) == [expected.tobytes().hex()] * size


def test_max_broadcast_and_gather_follow_each_other():
    body = """
for _ in range(5):
    high = data(ticket.rank)
    group.all_reduce(high, Reduction.MAX)
    sent = data(ticket.rank)
    group.broadcast(sent, root=1)
    gathered = group.all_gather(data(ticket.rank))
group.barrier()
print(high.tobytes().hex(), sent.tobytes().hex(), gathered.tobytes().hex())
"""
    rows = [rank_data(rank) for rank in range(3)]
    expected = [np.max(rows, axis=0), rows[1], np.stack(rows)]
    assert outputs_of(start_ranks(3, body)) == [" ".join(a.tobytes().hex() for a in expected)] * 3


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_rank_that_dies_is_named_to_the_others_at_once(lost, tmp_path):
    """Lost peer: typed error, no hang; far below the timeout, because a death is seen, not waited for."""
    body = f"""
array = data(ticket.rank)
group.all_reduce(array)
if ticket.rank == {lost}:
    import os
    os._exit(7)
try:
    group.all_reduce(array)
except PlumblineError as error:
    print(error.code, error.lost_rank)
stay(*{{0, 1, 2}} - {{{lost}}})
try:
    group.barrier()
except PlumblineError as error:
    print(error.code)
"""
    processes = start_ranks(3, body, timeout_s=2 * HANG_S, meeting=tmp_path)  # and all is over before that
    outputs = [process.communicate(timeout=HANG_S)[0].split() for process in processes]
    assert [p.returncode for p in processes] == [7 if rank == lost else 0 for rank in range(3)]
    expected = ["backend.peer_lost", str(lost), "backend.peer_lost"]
    assert [out for rank, out in enumerate(outputs) if rank != lost] == [expected] * 2


def test_a_silent_rank_is_named_within_the_stated_time(tmp_path):
    """It lives but does not come: the others wait for as long as they said, not for its end."""
    body = """
group.barrier()
if ticket.rank == 1:
    time.sleep(600)
else:
    try:
        group.barrier()
    except PlumblineError as error:
        print(error.code, error.lost_rank)
    stay(0, 2)
"""
    ranks = start_ranks(3, body, timeout_s=3, meeting=tmp_path)
    try:
        outputs = [ranks[number].communicate(timeout=HANG_S)[0].split() for number in (0, 2)]
    finally:
        ranks[1].kill()
        ranks[1].communicate()
    assert outputs == [["backend.peer_lost", "1"]] * 2


def test_ranks_that_call_different_collectives_are_told(tmp_path):
    body = """
array = data(ticket.rank)
try:
    group.all_reduce(array, Reduction.SUM if ticket.rank else Reduction.MAX)
except PlumblineError as error:
    print(error.code)
stay(0, 1)
"""
    assert outputs_of(start_ranks(2, body, meeting=tmp_path)) == [CollectiveMismatchError.code] * 2


def test_a_forked_child_joins_with_its_own_descriptors():
    rendezvous = Rendezvous(size=2, slot_bytes=SLOT_BYTES)
    child = os.fork()
    if child == 0:
        with CollectiveGroup(rendezvous.keep_only(1)) as group:
            group.all_reduce(np.ones(4))
        os._exit(0)
    with CollectiveGroup(rendezvous.keep_only(0), timeout_s=HANG_S) as group:
        array = np.full(4, 2.0)
        group.all_reduce(array)
        os.waitpid(child, 0)
        assert array.tolist() == [3.0] * 4
        with pytest.raises(PeerLostError):
            group.barrier()


def test_what_cannot_take_part_is_refused():
    with pytest.raises(GroupSizeError):
        Rendezvous(size=0, slot_bytes=64)
    rendezvous = Rendezvous(size=1, slot_bytes=SLOT_BYTES)
    with CollectiveGroup(rendezvous.keep_only(0)) as group:
        for array in (np.ones(2, dtype=np.int32), np.ones((4, 4))[:, 1]):
            with pytest.raises(CollectiveArrayError):
                group.all_reduce(array, Reduction.SUM)
        with pytest.raises(CollectiveArrayError):
            group.broadcast(np.ones(2), root=1)
        array = np.arange(3.0)
        group.all_reduce(array)
        assert array.tolist() == [0.0, 1.0, 2.0]
