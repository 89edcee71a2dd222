"""What people read of an explanation (L4-17)."""

from plumbline.scheduling.explanation import Explanation, Passage
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
