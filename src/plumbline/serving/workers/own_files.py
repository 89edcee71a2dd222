"""Tensors of one large call or result in a file of their own: written and read off the event loop."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence

import numpy as np

from plumbline.contracts.inference import Tensors
from plumbline.contracts.models import ModelMetadata
from plumbline.serving.workers import tensors
from plumbline.serving.workers.protocol import TensorAt
from plumbline.serving.workers.region import open_unnamed_file

__all__ = ["read_own_file", "write_own_file"]


def write_own_file(values: Tensors) -> tuple[int, list[TensorAt]]:
    """Descriptor of a fresh file with the tensors, and where they lie in it. The caller closes it.

    Raises:
        TensorRefused: a tensor cannot cross.
        OSError: no memory, or no descriptor.
    """
    packed, size = tensors.pack(values)
    descriptor = open_unnamed_file("plumbline tensors", max(size, 1))
    try:
        with mmap.mmap(descriptor, max(size, 1)) as mapped, memoryview(mapped) as memory:
            return descriptor, tensors.write(packed, memory, 0)
    except BaseException:
        os.close(descriptor)
        raise


def read_own_file(
    descriptor: int, places: Sequence[TensorAt], metadata: ModelMetadata, limit_bytes: int
) -> tuple[dict[str, np.ndarray], str | None]:
    """The tensors of a file that somebody else wrote, copied, and what is wrong with them if anything is.

    It is read, not mapped: whoever made it cannot make the reader fault by cutting it. Closes the descriptor.
    """
    try:
        size = os.fstat(descriptor).st_size
        if size > limit_bytes:
            return {}, f"a result of {size} bytes, at most {limit_bytes}"
        flaw = tensors.mismatch(places, 0, size, metadata)
        if flaw is not None:
            return {}, f"output {flaw[0]}: {flaw[1]}"
        memory = np.empty(size, dtype=np.uint8).data
        done = 0
        while done < size:
            count = os.preadv(descriptor, [memory[done:]], done)
            if count == 0:
                return {}, "its file ends early"
            done += count
        return tensors.read(places, memory, copy=False, writeable=True), None
    except (OSError, ValueError, MemoryError) as error:
        return {}, f"its file cannot be read: {type(error).__name__}"
    finally:
        os.close(descriptor)
