"""Loops and branches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.access import MemoryAccess
from plumbline.kernels.emit.value import Index, Value, is_value

__all__ = ["ControlFlow"]


class ControlFlow(MemoryAccess):
    """Counted loops, loops that carry values, guarded blocks."""

    @contextmanager
    def range(self, low: Index, high: Index, step: int = 1) -> Iterator[Index]:
        """`for i in range(low, high, step)`; one static trip is emitted in line, no trips are legal."""
        if not is_value(low) and not is_value(high) and low < high <= low + step:
            yield low
            return
        header, body, done = self.fresh("head"), self.fresh("loop"), self.fresh("done")
        start, stop = self.index(low), self.index(high)
        before = self.block
        self.statement(f"br label %{header}")
        self.label(header)
        place = self.reserve_line()
        counter = self.value(f"%{self.fresh('i')}", DType.INT64)
        again = self.compare("lt", counter, stop)
        self.statement(f"br i1 {again.text}, label %{body}, label %{done}")
        self.label(body)
        yield counter
        following = self.emit(f"add nsw i64 {counter.text}, {step}", DType.INT64)
        self.fill_line(
            place,
            f"{counter.text} = phi i64 [ {start.text}, %{before} ], [ {following.text}, %{self.block} ]",
        )
        self.statement(f"br label %{header}")
        self.label(done)

    def reduce(
        self,
        low: Index,
        high: Index,
        initial: Sequence[Value],
        body: Callable[[Index, list[Value]], Sequence[Value]],
        step: int = 1,
    ) -> list[Value]:
        """A loop that carries values in registers; zero trips return `initial`.

        The loop test stands at the bottom, guarded by one test before the first trip where the bounds are not
        static.
        """
        carried = list(initial)
        if not is_value(low) and not is_value(high):
            if high <= low:
                return carried
            if high <= low + step:
                return list(body(low, carried))
        loop, done = self.fresh("loop"), self.fresh("done")
        start, stop = self.index(low), self.index(high)
        guarded = is_value(low) or is_value(high)
        before = self.block
        if guarded:
            enter = self.compare("lt", start, stop)
            self.statement(f"br i1 {enter.text}, label %{loop}, label %{done}")
        else:
            self.statement(f"br label %{loop}")
        self.label(loop)
        places = [self.reserve_line() for _ in range(len(carried) + 1)]
        counter = self.value(f"%{self.fresh('i')}", DType.INT64)
        phis = [self.value(f"%{self.fresh('acc')}", v.dtype, v.lanes) for v in carried]
        results = list(body(counter, list(phis)))
        following = self.emit(f"add nsw i64 {counter.text}, {step}", DType.INT64)
        again = self.compare("lt", following, stop)
        latch = self.block
        self.statement(f"br i1 {again.text}, label %{loop}, label %{done}")
        self.fill_line(
            places[0], f"{counter.text} = phi i64 [ {start.text}, %{before} ], [ {following.text}, %{latch} ]"
        )
        for place, phi, first, last in zip(places[1:], phis, carried, results, strict=True):
            self.fill_line(
                place, f"{phi.text} = phi {phi.type} [ {first.text}, %{before} ], [ {last.text}, %{latch} ]"
            )
        self.label(done)
        if not guarded:
            return results
        return [
            self.emit(f"phi {r.type} [ {i.text}, %{before} ], [ {r.text}, %{latch} ]", r.dtype, r.lanes)
            for i, r in zip(carried, results, strict=True)
        ]

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """Emit a block that runs only where the scalar condition holds."""
        yes, done = self.fresh("then"), self.fresh("endif")
        self.statement(f"br i1 {condition.text}, label %{yes}, label %{done}")
        self.label(yes)
        yield
        self.statement(f"br label %{done}")
        self.label(done)

    def vectorize(self, count: Index, lanes: int, body: Callable[[Index, int], None]) -> None:
        """Call `body(first, lanes)` over whole vectors, then `body(i, 1)` over the rest.

        The two bodies apply the same operations element by element, so results do not depend on where the
        vectors end.
        """
        if lanes == 1:
            if is_value(count) or count > 0:
                with self.range(0, count) as i:
                    body(i, 1)
            return
        if not is_value(count):
            whole: Index = count // lanes * lanes
        else:
            whole = count - count % lanes
        if is_value(whole) or whole > 0:
            with self.range(0, whole, lanes) as i:
                body(i, lanes)
        if is_value(count) or whole < count:
            with self.range(whole, count) as i:
                body(i, 1)
