"""What people read of an explanation (L4-17)."""

from plumbline.scheduling.explanation import Explanation, Passage, tell_lost_workers
from plumbline.scheduling.explanation_text import explanation_lines


def arrived(graph, time_ns):
    return {
        "time_ns": time_ns, "graph": graph, "tenant": "t", "priority": 5, "deadline_ns": None, "depth": 1,
    }  # fmt: skip


def test_each_pass_of_a_pipeline_names_its_stage_and_the_pipeline():
    running = [{"stream": 0, "launch": 7, "graph": "find@2/1"}]
    passages = (
        Passage(arrived=arrived("find@2/0", 1_000_000)),
        Passage(arrived=arrived("find@2/1", 2_000_000), running=running),
        Passage(arrived=arrived("alone@1", 3_000_000)),
    )
    explanation = Explanation(request="r", policy="fifo", passages=passages, routes=())
    text = "\n".join(explanation_lines(explanation))
    assert "+0.000 ms arrived for stage 0 of pipeline find@2, tenant 't'" in text
    assert "+0.000 ms arrived for stage 1 of pipeline find@2, tenant 't'" in text
    assert "then stream 0 ran launch 7 of stage 1 of pipeline find@2" in text
    assert "arrived for alone@1, tenant 't'" in text


def route(time_ns, chosen, reason, **fields):
    return {"time_ns": time_ns, "rejected": (), "chosen": chosen, "reason": reason, "fields": fields}


def test_what_a_worker_took_along_ends_there_and_the_answer_of_the_gateway_is_told():
    gone = {"lost": "w0", "generation": 1, "because": "SIGKILL"}
    routes = (
        route(1_000_000, "m@1/w0", "only_version"),
        route(3_000_000, "", "worker_lost", **gone),
        route(4_500_000, "", "answered", code="backend.workers_lost_twice", status=502),
    )
    explanations = {
        "gateway": Explanation(request="r", policy="", passages=(), routes=routes),
        "w0-g1/engine": Explanation(
            request="r", policy="fifo", passages=(Passage(arrived=arrived("m@1", 1_000_000)),), routes=()
        ),
        "w0-g2/engine": Explanation(
            request="r", policy="fifo", passages=(Passage(arrived=arrived("m@1", 1_000_000)),), routes=()
        ),
    }
    tell_lost_workers(explanations)
    assert explanation_lines(explanations["gateway"])[2:] == [
        "+2.000 ms lost with worker w0 (SIGKILL)",
        "+3.500 ms answered with 502 backend.workers_lost_twice",
    ]
    assert explanation_lines(explanations["w0-g1/engine"])[-1] == "+2.000 ms its worker ended before it did"
    assert explanation_lines(explanations["w0-g2/engine"])[-1] == "its end is not in this log"
