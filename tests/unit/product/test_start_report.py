"""What an operator reads at the end of a start."""

from __future__ import annotations

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import VersionState, VersionStatus
from plumbline.product.cli.start_report import start_lines


def status(version: int, state: VersionState, reason: str = "") -> VersionStatus:
    ref = VersionRef(model="m", version=str(version))
    return VersionStatus(ref=ref, state=state, reason=reason, since_wall_ns=0)


def test_a_few_versions_are_all_named_with_their_reasons() -> None:
    statuses = [status(2, VersionState.READY), status(1, VersionState.FAILED, "it is broken")]
    assert list(start_lines(statuses, False, ["m@1 is failed: it is broken"])) == [
        "  m@1  failed  it is broken",
        "  m@2  ready",
        "not ready: m@1 is failed: it is broken",
    ]


def test_hundreds_of_versions_take_a_bounded_number_of_lines_and_trouble_comes_first() -> None:
    statuses = [status(number, VersionState.FOUND) for number in range(800, 2, -1)]
    statuses += [status(2, VersionState.READY), status(1, VersionState.FAILED, "it is broken")]
    lines = list(start_lines(statuses, False, [f"m@{number} is failed: broken" for number in range(30)]))
    assert lines[:2] == ["  m@1  failed  it is broken", "  m@2  ready"]
    assert lines[-2] == "  ... and 780 more, see `plumb models ls`"
    assert (
        lines[-1] == "not ready: " + "; ".join(f"m@{n} is failed: broken" for n in range(3)) + "; and 27 more"
    )
    assert len(lines) == 22
    assert list(start_lines(statuses, True, []))[-1] == "ready"
