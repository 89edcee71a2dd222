from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.hardware.allocation import ALLOCATION_TRANSITIONS, AllocationEvent
from plumbline.hardware.cpu import CpuDevice
from plumbline.hardware.faults import DeviceMemoryExhaustedError
from plumbline.hardware.simulated import SimulatedDevice

CAPACITY = 16_384


@settings(max_examples=100)
@given(
    st.sampled_from([CpuDevice, SimulatedDevice]),
    st.lists(st.tuples(st.booleans(), st.integers(1, 6_000), st.sampled_from("abc")), max_size=40),
)
def test_used_and_free_add_up_after_any_sequence(kind, operations):
    """L0-09, L0-25: invariants of the pool; L0-12: each transition is legal and emitted once."""
    changes = []
    with kind(capacity_bytes=CAPACITY, on_allocation=changes.append) as device:
        pool, live, refused = device.memory, [], 0
        for is_allocation, size, tenant in operations:
            if is_allocation or not live:
                try:
                    live.append(pool.allocate(size, label="b", tenant=tenant))
                except DeviceMemoryExhaustedError:
                    refused += 1
            else:
                live.pop(size % len(live)).close()
            rounded = [-(-buffer.size_bytes // 256) * 256 for buffer in live]
            assert pool.used_bytes == sum(rounded) <= CAPACITY
            assert pool.used_bytes + pool.free_bytes == CAPACITY
            assert sum(pool.usage_by_tenant().values()) == pool.used_bytes
    assert pool.used_bytes == 0
    assert refused == sum(change.event is AllocationEvent.REFUSE for change in changes)
    for change in changes:
        assert ALLOCATION_TRANSITIONS[change.before, change.event] is change.allocation.state


@given(st.lists(st.integers(1, 2_000), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_simulated_memory_is_whole_again_after_any_order_of_release(sizes, rng):
    """L0-22: ranges merge, so the whole capacity can be granted once more."""
    with SimulatedDevice(capacity_bytes=1 << 16) as device:
        buffers = [device.memory.allocate(size, label="b") for size in sizes]
        rng.shuffle(buffers)
        for buffer in buffers:
            buffer.close()
        device.memory.allocate(1 << 16, label="all").close()
