"""Native lane code for tests: a small generation-counted fork-join, compiled by llvmlite from text.

Lane slots (int64): 0 threads, 1 epoch, 2 done, 3 stop, 4 entry, 5 context.
"""

import llvmlite.binding as llvm

from plumbline.hardware.lane import LaneCode

LANE_TEXT = """
declare i32 @sched_yield()

define void @worker(ptr %lane, i64 %tid) {
entry:
  %epoch_at = getelementptr i64, ptr %lane, i64 1
  %done_at = getelementptr i64, ptr %lane, i64 2
  %stop_at = getelementptr i64, ptr %lane, i64 3
  %entry_at = getelementptr i64, ptr %lane, i64 4
  %context_at = getelementptr i64, ptr %lane, i64 5
  br label %poll
poll:
  %seen = phi i64 [ 0, %entry ], [ %seen, %yield ], [ %now, %work ]
  %stop = load atomic i64, ptr %stop_at acquire, align 8
  %stopping = icmp ne i64 %stop, 0
  br i1 %stopping, label %end, label %look
look:
  %now = load atomic i64, ptr %epoch_at acquire, align 8
  %fresh = icmp ne i64 %now, %seen
  br i1 %fresh, label %work, label %yield
yield:
  %ignored = call i32 @sched_yield()
  br label %poll
work:
  %function = load ptr, ptr %entry_at
  %context = load ptr, ptr %context_at
  call void %function(ptr %context, i64 %tid, i64 %now)
  %before = atomicrmw add ptr %done_at, i64 1 acq_rel
  br label %poll
end:
  ret void
}

define void @launch(ptr %lane, ptr %function, ptr %context) {
entry:
  %epoch_at = getelementptr i64, ptr %lane, i64 1
  %done_at = getelementptr i64, ptr %lane, i64 2
  %entry_at = getelementptr i64, ptr %lane, i64 4
  %context_at = getelementptr i64, ptr %lane, i64 5
  %threads = load i64, ptr %lane
  %others = sub i64 %threads, 1
  store ptr %function, ptr %entry_at
  store ptr %context, ptr %context_at
  store atomic i64 0, ptr %done_at release, align 8
  %old = load i64, ptr %epoch_at
  %new = add i64 %old, 1
  store atomic i64 %new, ptr %epoch_at release, align 8
  call void %function(ptr %context, i64 0, i64 %new)
  br label %wait
wait:
  %done = load atomic i64, ptr %done_at acquire, align 8
  %complete = icmp eq i64 %done, %others
  br i1 %complete, label %end, label %again
again:
  %ignored = call i32 @sched_yield()
  br label %wait
end:
  ret void
}

define void @stop(ptr %lane) {
  %stop_at = getelementptr i64, ptr %lane, i64 3
  store atomic i64 1, ptr %stop_at release, align 8
  ret void
}

define void @quiesce(ptr %lane) {
  ret void
}

; context[tid] += epoch; context[8 + tid] = tid + 1
define void @mark(ptr %context, i64 %tid, i64 %epoch) {
  %at = getelementptr i64, ptr %context, i64 %tid
  %old = load i64, ptr %at
  %new = add i64 %old, %epoch
  store i64 %new, ptr %at
  %slot = add i64 %tid, 8
  %mark_at = getelementptr i64, ptr %context, i64 %slot
  %mark = add i64 %tid, 1
  store i64 %mark, ptr %mark_at
  ret void
}

; spin context[0] iterations, then context[1] = 1
define void @spin(ptr %context, i64 %tid, i64 %epoch) {
entry:
  %count = load i64, ptr %context
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %next = add i64 %i, 1
  call void asm sideeffect "", ""()
  %more = icmp ult i64 %next, %count
  br i1 %more, label %loop, label %end
end:
  %at = getelementptr i64, ptr %context, i64 1
  store i64 1, ptr %at
  ret void
}

; context[0] += 1, then wait until two callers are here
define void @meet(ptr %context, i64 %tid, i64 %epoch) {
entry:
  %before = atomicrmw add ptr %context, i64 1 acq_rel
  br label %loop
loop:
  %here = load atomic i64, ptr %context acquire, align 8
  %ignored = call i32 @sched_yield()
  %alone = icmp slt i64 %here, 2
  br i1 %alone, label %loop, label %end
end:
  ret void
}
"""


class LaneLibrary:
    """Keeps the compiled code alive while its addresses are used."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        module = llvm.parse_assembly(LANE_TEXT)
        module.verify()
        machine = llvm.Target.from_default_triple().create_target_machine(opt=2)
        self._engine = llvm.create_mcjit_compiler(module, machine)
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        return self._engine.get_function_address(name)

    @property
    def lane_code(self) -> LaneCode:
        return LaneCode(
            worker=self.address("worker"),
            launch=self.address("launch"),
            stop=self.address("stop"),
            quiesce=self.address("quiesce"),
            library=self._engine,
        )
