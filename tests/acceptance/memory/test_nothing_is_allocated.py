"""No allocation after build: counted calls of the C allocator, and resident memory over 100,000 runs.

The counts come from a library before the C allocator, made here from LLVM text: no compiler is needed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import plumbline
from plumbline.compiler.lowering.codegen import compile_object
from plumbline.compiler.lowering.link import find_linker, link_shared
from plumbline.testing.models import widest_target

COUNTER = """
@calls = global i64 0
declare ptr @__libc_malloc(i64)
declare ptr @__libc_calloc(i64, i64)
declare ptr @__libc_realloc(ptr, i64)
declare ptr @__libc_memalign(i64, i64)
define ptr @malloc(i64 %n) {
  %c = atomicrmw add ptr @calls, i64 1 monotonic
  %p = call ptr @__libc_malloc(i64 %n)
  ret ptr %p
}
define ptr @calloc(i64 %n, i64 %s) {
  %c = atomicrmw add ptr @calls, i64 1 monotonic
  %p = call ptr @__libc_calloc(i64 %n, i64 %s)
  ret ptr %p
}
define ptr @realloc(ptr %old, i64 %n) {
  %c = atomicrmw add ptr @calls, i64 1 monotonic
  %p = call ptr @__libc_realloc(ptr %old, i64 %n)
  ret ptr %p
}
define ptr @aligned_alloc(i64 %a, i64 %n) {
  %c = atomicrmw add ptr @calls, i64 1 monotonic
  %p = call ptr @__libc_memalign(i64 %a, i64 %n)
  ret ptr %p
}
define i64 @allocator_calls() {
  %c = load atomic i64, ptr @calls monotonic, align 8
  ret i64 %c
}
"""

SCRIPT = """
import ctypes, json, sys
from pathlib import Path
import numpy as np
from plumbline.testing import bits
from plumbline.testing.bits.variants import splitting_everything

def resident_pages():
    return int(Path("/proc/self/statm").read_text().split()[1])

def mappings():
    return len(Path("/proc/self/maps").read_text().splitlines())

kind, threads, runs, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
network = getattr(bits, kind)(1, is_batched=True)
with splitting_everything():
    model = bits.compile_network(network, folder, threads=threads)
context = model.context()
for name, array in network.inputs.items():
    context.inputs[name][...] = array

def repeat(times):
    for _ in range(times):
        context.run()

repeat(5_000)
allocator_calls = ctypes.CDLL(None).allocator_calls if len(sys.argv) > 5 else int
allocator_calls()
maps, pages = mappings(), resident_pages()
before = allocator_calls()
repeat(runs)
calls = allocator_calls() - before
grown = resident_pages() - pages
before = allocator_calls()
buffer = np.zeros(100_000)
control = allocator_calls() - before
del buffer
print(json.dumps({"threads": model.manifest.threads, "calls": calls, "control": control, "pages": grown,
                  "maps": mappings() - maps}))
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="reads /proc and replaces the C allocator of glibc"
)


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared library that counts calls of the C allocator."""
    linker = find_linker()
    if linker is None:
        pytest.skip("this machine has no linker")
    folder = tmp_path_factory.mktemp("counter")
    (folder / "counter.o").write_bytes(compile_object(COUNTER, widest_target()))
    assert link_shared(folder / "counter.o", folder / "counter.so", linker)
    return folder / "counter.so"


def measure(kind: str, threads: int, runs: int, folder: Path, counter: Path | None = None) -> dict[str, int]:
    environment = {**os.environ, "PYTHONPATH": str(Path(plumbline.__file__).parents[1])}
    command = [sys.executable, "-c", SCRIPT, kind, str(threads), str(runs), str(folder)]
    if counter is not None:
        environment["LD_PRELOAD"] = str(counter)
        command.append("counted")
    answer = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert answer.returncode == 0, answer.stderr
    found: dict[str, int] = json.loads(answer.stdout)
    return found


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "kind", ["random_image_network", "random_attention_network", "random_recurrent_network"]
)
def test_a_thousand_runs_call_the_allocator_not_once(
    kind: str, threads: int, tmp_path: Path, counter: Path
) -> None:
    """L2-22. The control: making an array of a million numbers is counted."""
    found = measure(kind, threads, 1_000, tmp_path, counter)
    assert found["threads"] == threads
    assert found["control"] > 0
    assert (found["calls"], found["maps"]) == (0, 0)


def test_resident_memory_is_flat_over_a_hundred_thousand_runs(tmp_path: Path) -> None:
    found = measure("random_perceptron", 1, 100_000, tmp_path)
    assert found["pages"] <= 4
    assert found["maps"] == 0
