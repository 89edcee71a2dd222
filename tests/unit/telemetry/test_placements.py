import pytest

from plumbline.telemetry.perfetto import to_perfetto
from plumbline.telemetry.placements import Placement, PlacementStepsError, placement_points
from plumbline.telemetry.points import TensorAllocation
from plumbline.telemetry.trace import verify_trace

PLAN = [
    Placement(tensor="a", offset=0, size_bytes=256, first_step=0, last_step=1),
    Placement(tensor="b", offset=256, size_bytes=512, first_step=1, last_step=2),
    Placement(tensor="c", offset=0, size_bytes=128, first_step=2, last_step=2),
]


def test_every_allocation_equals_the_plan_and_has_one_deallocation():
    """X-43, X-44."""
    points = placement_points(PLAN, [10, 20, 30, 40])
    verify_trace(points)
    allocations = [point for point in points if isinstance(point, TensorAllocation)]
    assert [(p.tensor, p.offset, p.size_bytes) for p in allocations] == [
        (place.tensor, place.offset, place.size_bytes) for place in PLAN
    ]
    assert [point.timestamp_ns for point in points] == [10, 20, 30, 30, 40, 40]


def test_the_counter_never_exceeds_the_live_set_of_the_plan():
    """A freed tensor leaves before its place is taken, also when steps take no measurable time."""
    for times in ([10, 20, 30, 40], [10, 10, 10, 10]):
        events = to_perfetto(placement_points(PLAN, times))["traceEvents"]
        assert max(e["args"]["live"] for e in events if e["ph"] == "C") == 768


@pytest.mark.parametrize(("first", "last"), [(-1, 0), (0, 3), (2, 1)])
def test_a_placement_outside_the_run_is_refused(first, last):
    place = Placement(tensor="x", offset=0, size_bytes=1, first_step=first, last_step=last)
    with pytest.raises(PlacementStepsError):
        placement_points([place], [1, 2, 3, 4])
