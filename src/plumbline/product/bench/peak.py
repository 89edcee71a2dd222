"""The multiply-add rate of this machine, measured with a loop of our own: registers only, no memory."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Sequence

from plumbline.compiler.build import host_system
from plumbline.compiler.lowering.codegen import compile_object
from plumbline.compiler.lowering.link import JitLibrary
from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.ir import FunctionBuilder, ModuleBuilder, Pointer, Value
from plumbline.kernels.emit.target import TargetDescription

__all__ = ["emit_peak_loop", "measure_peak"]

CHAINS = 10
"""Independent accumulators: more than latency times issue width of any target."""
SYMBOL = "plumb_peak"


def measure_peak(
    target: TargetDescription, threads: Sequence[int], *, seconds: float = 0.3
) -> dict[int, float]:
    """Best rate in GFLOP/s for each number of threads.

    Args:
        target: instruction set; this machine has it.
        threads: numbers of threads, each on a loop of its own.
        seconds: time spent on each number.
    """
    host_system()
    library = JitLibrary(compile_object(emit_peak_loop(target), target), "peak")
    loop = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(library.address(SYMBOL))
    per_turn = 2 * CHAINS * target.float_lanes
    return {count: _best_rate(loop, count, per_turn, seconds) for count in threads}


def emit_peak_loop(target: TargetDescription) -> str:
    """LLVM text of `void plumb_peak(float* out, i64 turns)`: `CHAINS` fused multiply-adds a turn."""
    module = ModuleBuilder()
    b = module.function(SYMBOL, [("ptr", "out"), ("i64", "turns")], internal=False)
    lanes = target.float_lanes
    scale = b.load(Pointer("%out"), DType.FLOAT32, 0, lanes=lanes)
    shift = b.load(Pointer("%out"), DType.FLOAT32, lanes, lanes=lanes)
    chains = [b.load(Pointer("%out"), DType.FLOAT32, lanes * i, lanes=lanes) for i in range(CHAINS)]
    for place, total in enumerate(_loop(b, chains, scale, shift)):
        b.store(total, Pointer("%out"), lanes * place)
    b.finish()
    return module.text()


def _loop(b: FunctionBuilder, chains: list[Value], scale: Value, shift: Value) -> list[Value]:
    variables = [b.variable(DType.FLOAT32, chain, chain.lanes) for chain in chains]
    with b.range(0, Value(b, "%turns", DType.INT64)):
        for variable in variables:
            variable.set(b.fma(variable.get(), scale, shift))
    return [variable.get() for variable in variables]


def _best_rate(loop: Callable[[int, int], None], threads: int, per_turn: int, seconds: float) -> float:
    turns, best = 100_000, 0.0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        took = _timed(loop, threads, turns)
        best = max(best, threads * turns * per_turn / took / 1e9)
        turns = max(1000, int(turns * 0.02 / took))
    return best


def _timed(loop: Callable[[int, int], None], threads: int, turns: int) -> float:
    """Seconds until all threads have done their turns; ctypes lets go of the interpreter lock."""
    buffers = [(ctypes.c_float * 512)(*([0.5] * 512)) for _ in range(threads)]
    barrier = threading.Barrier(threads)
    spans: list[tuple[float, float]] = []

    def work(buffer: ctypes.Array[ctypes.c_float]) -> None:
        barrier.wait()
        began = time.perf_counter()
        loop(ctypes.addressof(buffer), turns)
        spans.append((began, time.perf_counter()))

    workers = [threading.Thread(target=work, args=(buffer,)) for buffer in buffers]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return max(end for _, end in spans) - min(began for began, _ in spans)
