"""In which order a replacement loads what others have."""

from __future__ import annotations

from plumbline.contracts.models import ModelMetadata
from plumbline.serving.workers.journal import LoadedVersion
from plumbline.serving.workers.versions import next_to_load
from plumbline.testing.worker_pools import spec


def version(handle: int, *, load_s: float = 1.0, faults: int = 0, not_before_s: float = 0.0) -> LoadedVersion:
    made = spec(model=f"m{handle}")
    return LoadedVersion(
        handle=handle,
        spec=made,
        metadata=ModelMetadata(ref=made.ref, kind=made.kind, inputs=(), outputs=()),
        load_s=load_s,
        load_faults=faults,
        not_before_s=not_before_s,
    )


def test_a_version_with_waiting_calls_is_loaded_before_one_that_loads_faster() -> None:
    slow, fast = version(1, load_s=9.0), version(2, load_s=0.1)
    assert next_to_load([slow, fast], {1}, 0.0) is slow


def test_without_waiting_calls_the_version_that_loaded_fastest_is_first() -> None:
    slow, fast = version(1, load_s=9.0), version(2, load_s=0.1)
    assert next_to_load([slow, fast], set(), 0.0) is fast


def test_what_could_not_be_loaded_the_last_time_comes_after_everything_else() -> None:
    """It may be what ends the worker, and the others would wait for it again."""
    faulty, slow = version(1, load_s=0.1, faults=1), version(2, load_s=9.0)
    assert next_to_load([faulty, slow], {1}, 0.0) is slow


def test_nothing_is_loaded_before_its_moment() -> None:
    later = version(1, not_before_s=5.0)
    assert next_to_load([later], {1}, 4.9) is None
    assert next_to_load([later], set(), 5.0) is later
