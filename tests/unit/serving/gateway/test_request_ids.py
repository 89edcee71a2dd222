"""Ids of requests whose clients give none: never two equal ones, and nobody can take them away (L4-03)."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from plumbline.contracts.requests import RequestId, TenantId, verify_request_id
from plumbline.scheduling.decisions import DecisionCore
from plumbline.scheduling.execution_limits import verify_execution_request
from plumbline.scheduling.launch import Launch
from plumbline.scheduling.policies.fifo import FifoPolicy
from plumbline.scheduling.request import ExecutionRequest
from plumbline.serving.gateway.application import build_application
from plumbline.serving.gateway.request_ids import RequestIds
from plumbline.testing.gateways import FakeInference, ask_soon, fake_gateway

INFER = "/v2/models/echo/infer"
BODY = json.dumps({"inputs": [{"name": "FP32", "shape": [1], "datatype": "FP32", "data": [1]}]}).encode()
EACH = 250_000


def test_a_million_ids_of_both_doors_made_on_four_threads_are_a_million_different_ids():
    """L4-03: ids are unique over 10^6 submits."""
    rest, grpc = RequestIds(), RequestIds("g")
    with ThreadPoolExecutor(4) as threads:
        made = threads.map(lambda ids: [ids.make() for _ in range(EACH)], (rest, grpc, rest, grpc))
        ids = [one for part in made for one in part]
    assert len(ids) == len(set(ids)) == 1_000_000
    assert verify_request_id(max(ids, key=len)) in ids


@pytest.mark.slow
def test_a_million_submissions_with_made_ids_are_a_million_requests_and_none_is_a_duplicate():
    """L4-03, through the core: each enters once, runs once, and its id is never refused."""
    core, ids = DecisionCore(policy=FifoPolicy(), capacity=64, streams=1), RequestIds()
    ran = set()
    for turn in range(1_000_000 // 50):
        for _ in range(50):
            request = ExecutionRequest(id=ids.make(), graph="m@1", tenant=TenantId("t"))
            core.enter(verify_execution_request(request), turn)
        while core.depth:
            launch = core.select(0, turn)
            assert isinstance(launch, Launch)
            core.finish(launch.number, turn, {one.id: "ok" for one in launch.requests})
            ran.update(one.id for one in launch.requests)
    assert len(ran) == core.arrivals == 1_000_000


def test_ids_that_clients_gave_to_requests_in_flight_are_passed_over():
    taken = {RequestId("")}
    ids = RequestIds(is_taken=lambda made: made in taken)
    prefix = ids.make().rpartition("-")[0]
    taken |= {RequestId(f"{prefix}-{number:x}") for number in range(2, 20)}
    assert ids.make() == f"{prefix}-{20:x}"


def test_a_client_that_guesses_the_next_id_does_not_get_the_next_request_of_others_refused():
    """An id in an answer shows how the next ones look; each request counts one on."""

    async def scenario():
        inference = FakeInference()
        inference.hold = True
        application = build_application(fake_gateway(inference=inference))
        live = await ask_soon(application, "GET", "/health/live")
        prefix, _, count = live.headers["x-request-id"].rpartition("-")
        guessed = [f"{prefix}-{int(count, 16) + ahead:x}" for ahead in range(8, 15)]
        held = [
            asyncio.create_task(
                ask_soon(application, "POST", INFER, body=BODY, headers=[("x-request-id", one)])
            )
            for one in guessed
        ]
        while len(application.flights) < len(guessed):
            await asyncio.sleep(0.001)
        innocent = asyncio.create_task(ask_soon(application, "POST", INFER, body=BODY))
        while len(application.flights) == len(guessed) and not innocent.done():
            await asyncio.sleep(0.001)
        inference.release()
        return await innocent, [(await task).status for task in held], guessed

    innocent, held, guessed = asyncio.run(scenario())
    assert innocent.status == 200
    assert innocent.headers["x-request-id"] not in guessed
    assert held == [200] * len(guessed)
