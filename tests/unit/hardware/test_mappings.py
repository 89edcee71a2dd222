import mmap

import numpy as np
import pytest

from plumbline.hardware.handles import HandleClosedError, HandleRegistry
from plumbline.hardware.host.mappings import (
    FileMapping,
    FileMappingError,
    MappingFailedError,
    address_of,
    map_anonymous,
)


def test_anonymous_memory_is_zero_and_page_aligned():
    memory = map_anonymous(10_000)
    assert address_of(memoryview(memory)) % mmap.PAGESIZE == 0
    assert not any(memory[:])


@pytest.mark.parametrize("size_bytes", [0, -1, 1 << 62])
def test_an_impossible_mapping_is_a_typed_error(size_bytes):
    """L0-05: every native call is checked."""
    with pytest.raises(MappingFailedError):
        map_anonymous(size_bytes)


def test_a_file_is_mapped_read_only_and_counted(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(range(100)))
    registry = HandleRegistry()
    with FileMapping(path, registry=registry) as mapping:
        assert bytes(mapping.view(10, 3)) == bytes([10, 11, 12])
        array = np.frombuffer(mapping.view(), dtype=np.uint8)
        with pytest.raises(TypeError):
            mapping.view()[0] = 1
        with pytest.raises(FileMappingError):
            mapping.view(90, 11)
        assert registry.live_by_kind() == {"file mapping": 1}
    assert registry.live == 0
    assert array.sum() == sum(range(100))
    with pytest.raises(HandleClosedError):
        mapping.view()


def test_a_file_that_cannot_be_mapped_is_named_without_its_folder(tmp_path):
    """X-36: no machine path leaves."""
    (tmp_path / "empty").touch()
    for name in ("missing", "empty"):
        with pytest.raises(FileMappingError, match=name) as caught:
            FileMapping(tmp_path / name, registry=HandleRegistry())
        assert str(tmp_path) not in caught.value.message
