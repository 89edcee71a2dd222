"""The thread runtime of generated code, as LLVM text: lanes, claims and completion counters.

Every thread of a lane runs the same segment function. Threads claim tiles of a phase and count finished
tiles; a phase is over when all its tiles are finished, not when all threads have arrived. So a thread that
was descheduled holds up nobody unless it holds a tile, and a thread that wakes late walks through finished
phases and joins the rest.

A claim counter is one 64-bit word `epoch:32 | taken from the back:16 | taken from the front:16`; even threads
take from the front and odd ones from the back, so that a thread tends to meet the same rows in the next
phase. A word whose epoch is older than the run counts as zero, so nothing is reset between runs; a word whose
epoch is newer tells a late thread that its run is over.

Memory of a lane (int64 slots, one cache line apart): 0 threads, 8 sequence (odd while being published), 16
parked workers, 24 entry, 25 context, 26 epoch, 64 + 8 * tid: whether thread tid may be inside a run.
Memory of a context (int64 slots): see `contracts.context_block`.
"""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.kernels.emit.ir import ModuleBuilder

__all__ = [
    "LANE_SYMBOLS",
    "MAX_TILES",
    "HostSystem",
    "add_runtime",
]


MAX_TILES = 32768
LANE_SYMBOLS = ("plumb_worker", "plumb_launch", "plumb_run", "plumb_stop", "plumb_quiesce")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSystem:
    """What the runtime asks of the operating system."""

    name: str
    architecture: str

    @property
    def futex_number(self) -> int:
        """Linux system call number of futex."""
        return {"x86_64": 202, "aarch64": 98}[self.architecture]

    @property
    def monotonic_clock(self) -> int:
        """Number of CLOCK_MONOTONIC."""
        return 6 if self.name == "darwin" else 1

    @property
    def pause(self) -> str:
        """An instruction that tells the core it is spinning."""
        if self.architecture == "x86_64":
            return "call void @llvm.x86.sse2.pause()"
        return "call void @llvm.aarch64.hint(i32 1)"


def add_runtime(module: ModuleBuilder, system: HostSystem) -> None:
    """Add the lane functions and the claim functions to a module."""
    module.declare("sched_yield", "declare i32 @sched_yield()")
    module.declare("usleep", "declare i32 @usleep(i32)")
    if system.architecture == "x86_64":
        module.declare("pause", "declare void @llvm.x86.sse2.pause()")
    else:
        module.declare("pause", "declare void @llvm.aarch64.hint(i32)")
    if system.name == "darwin":
        module.declare("__ulock_wait", "declare i32 @__ulock_wait(i32, ptr, i64, i32)")
        module.declare("__ulock_wake", "declare i32 @__ulock_wake(i32, ptr, i64)")
    else:
        module.declare("syscall", "declare i64 @syscall(i64, ...)")
    for text in (_park(system), _CLAIM, _FINISH, _wait(system), _worker(system), _LAUNCH, _STOP, _QUIESCE):
        module.add_text(text)


_CLAIM = """
; the next tile of a phase, or -1
define internal i64 @plumb_claim(ptr %word, i64 %tid, i64 %epoch, i64 %total) #0 {
entry:
  %tag = shl i64 %epoch, 32
  %odd = and i64 %tid, 1
  %from_back = icmp ne i64 %odd, 0
  br label %again
again:
  %old = load atomic i64, ptr %word acquire, align 8
  %old_epoch = lshr i64 %old, 32
  %mine = icmp eq i64 %old_epoch, %epoch
  %ahead64 = sub i64 %epoch, %old_epoch
  %ahead = trunc i64 %ahead64 to i32
  %stale = icmp slt i32 %ahead, 0
  br i1 %stale, label %none, label %live
live:
  %low = and i64 %old, 4294967295
  %counts = select i1 %mine, i64 %low, i64 0
  %front = and i64 %counts, 65535
  %back = lshr i64 %counts, 16
  %taken = add i64 %front, %back
  %left = icmp slt i64 %taken, %total
  br i1 %left, label %take, label %none
take:
  %step = select i1 %from_back, i64 65536, i64 1
  %new_counts = add i64 %counts, %step
  %new = or i64 %tag, %new_counts
  %pair = cmpxchg ptr %word, i64 %old, i64 %new acq_rel acquire
  %won = extractvalue { i64, i1 } %pair, 1
  br i1 %won, label %got, label %again
got:
  %last = sub i64 %total, 1
  %from_end = sub i64 %last, %back
  %tile = select i1 %from_back, i64 %from_end, i64 %front
  ret i64 %tile
none:
  ret i64 -1
}
"""

_FINISH = """
; count one finished tile
define internal void @plumb_finish(ptr %word, i64 %epoch) #0 {
entry:
  %tag = shl i64 %epoch, 32
  br label %again
again:
  %old = load atomic i64, ptr %word monotonic, align 8
  %old_epoch = lshr i64 %old, 32
  %mine = icmp eq i64 %old_epoch, %epoch
  %base = select i1 %mine, i64 %old, i64 %tag
  %new = add i64 %base, 1
  %pair = cmpxchg ptr %word, i64 %old, i64 %new acq_rel monotonic
  %won = extractvalue { i64, i1 } %pair, 1
  br i1 %won, label %done, label %again
done:
  ret void
}
"""


def _wait(system: HostSystem) -> str:
    return f"""
; until all tiles of a phase are finished, or the run is over; spins, then yields, then sleeps in small naps
define internal void @plumb_wait(ptr %word, i64 %epoch, i64 %total) #0 {{
entry:
  %tag = shl i64 %epoch, 32
  %goal = or i64 %tag, %total
  %nothing = icmp eq i64 %total, 0
  br i1 %nothing, label %done, label %look
look:
  %n = phi i64 [ 0, %entry ], [ %n1, %relax ]
  %old = load atomic i64, ptr %word acquire, align 8
  %all = icmp eq i64 %old, %goal
  br i1 %all, label %done, label %check
check:
  %old_epoch = lshr i64 %old, 32
  %ahead64 = sub i64 %epoch, %old_epoch
  %ahead = trunc i64 %ahead64 to i32
  %stale = icmp slt i32 %ahead, 0
  br i1 %stale, label %done, label %spin
spin:
  %n1 = add i64 %n, 1
  {system.pause}
  %short = icmp slt i64 %n1, 4000
  br i1 %short, label %relax, label %long
long:
  %nap = icmp sgt i64 %n1, 4200
  br i1 %nap, label %sleep, label %yield
yield:
  %y = call i32 @sched_yield()
  br label %relax
sleep:
  %s = call i32 @usleep(i32 50)
  br label %relax
relax:
  br label %look
done:
  ret void
}}
"""


def _park(system: HostSystem) -> str:
    if system.name == "darwin":
        wait = "%r = call i32 @__ulock_wait(i32 1, ptr %word, i64 %expected, i32 0)"
        wake = "%r = call i32 @__ulock_wake(i32 257, ptr %word, i64 0)"
    else:
        number = system.futex_number
        wait = (
            "%e32 = trunc i64 %expected to i32\n  "
            f"%r = call i64 (i64, ...) @syscall(i64 {number}, ptr %word, i32 128, i32 %e32, ptr null, "
            "ptr null, i32 0)"
        )
        wake = (
            f"%r = call i64 (i64, ...) @syscall(i64 {number}, ptr %word, i32 129, i32 2147483647, ptr null, "
            "ptr null, i32 0)"
        )
    return f"""
define internal void @plumb_park(ptr %word, i64 %expected) #0 {{
entry:
  {wait}
  ret void
}}
define internal void @plumb_wake(ptr %word) #0 {{
entry:
  {wake}
  ret void
}}
"""


def _worker(system: HostSystem) -> str:
    return f"""
define void @plumb_worker(ptr %lane, i64 %tid) #0 {{
entry:
  %go = getelementptr i64, ptr %lane, i64 8
  %parked = getelementptr i64, ptr %lane, i64 16
  %entry_slot = getelementptr i64, ptr %lane, i64 24
  %context_slot = getelementptr i64, ptr %lane, i64 25
  %epoch_slot = getelementptr i64, ptr %lane, i64 26
  %line = mul i64 %tid, 8
  %active_index = add i64 %line, 64
  %active = getelementptr i64, ptr %lane, i64 %active_index
  br label %idle
idle:
  %seen = phi i64 [ 0, %entry ], [ %v, %skip ], [ %v, %ran ]
  br label %look
look:
  %n = phi i64 [ 0, %idle ], [ %n1, %spin ], [ 0, %unpark ], [ 0, %changed ]
  %v = load atomic i64, ptr %go seq_cst, align 8
  %low = and i64 %v, 1
  %settled = icmp eq i64 %low, 0
  %differs = icmp ne i64 %v, %seen
  %fresh = and i1 %settled, %differs
  br i1 %fresh, label %enter, label %wait
wait:
  %n1 = add i64 %n, 1
  %short = icmp slt i64 %n1, 3000
  br i1 %short, label %spin, label %park
spin:
  {system.pause}
  br label %look
park:
  %p0 = atomicrmw add ptr %parked, i64 1 seq_cst
  %v2 = load atomic i64, ptr %go seq_cst, align 8
  %same = icmp eq i64 %v2, %seen
  br i1 %same, label %sleep, label %unpark
sleep:
  call void @plumb_park(ptr %go, i64 %seen)
  br label %unpark
unpark:
  %p1 = atomicrmw sub ptr %parked, i64 1 seq_cst
  br label %look
enter:
  store atomic i64 1, ptr %active seq_cst, align 8
  %f = load atomic i64, ptr %entry_slot acquire, align 8
  %c = load atomic i64, ptr %context_slot acquire, align 8
  %e = load atomic i64, ptr %epoch_slot acquire, align 8
  %v3 = load atomic i64, ptr %go seq_cst, align 8
  %unchanged = icmp eq i64 %v, %v3
  br i1 %unchanged, label %valid, label %changed
changed:
  store atomic i64 0, ptr %active seq_cst, align 8
  br label %look
valid:
  %stop = icmp eq i64 %f, 1
  br i1 %stop, label %leave, label %maybe
maybe:
  %empty = icmp eq i64 %f, 0
  br i1 %empty, label %nothing, label %run
nothing:
  store atomic i64 0, ptr %active seq_cst, align 8
  br label %skip
run:
  %fp = inttoptr i64 %f to ptr
  %cp = inttoptr i64 %c to ptr
  call void %fp(ptr %cp, i64 %tid, i64 %e)
  store atomic i64 0, ptr %active seq_cst, align 8
  br label %ran
ran:
  br label %idle
skip:
  br label %idle
leave:
  store atomic i64 0, ptr %active seq_cst, align 8
  ret void
}}
"""


_LAUNCH = """
define void @plumb_launch(ptr %lane, ptr %entry_point, ptr %context) #0 {
entry:
  %epoch_slot = getelementptr i64, ptr %context, i64 3
  %before = atomicrmw add ptr %epoch_slot, i64 1 monotonic
  %next = add i64 %before, 1
  %epoch = and i64 %next, 4294967295
  %threads = load i64, ptr %lane, align 8
  %alone = icmp sle i64 %threads, 1
  br i1 %alone, label %run, label %publish
publish:
  %f = ptrtoint ptr %entry_point to i64
  %c = ptrtoint ptr %context to i64
  call void @plumb_publish(ptr %lane, i64 %f, i64 %c, i64 %epoch)
  br label %run
run:
  call void %entry_point(ptr %context, i64 0, i64 %epoch)
  ret void
}

; plumb_launch with its three arguments in memory, for callers that prepare a launch once
define void @plumb_run(ptr %record) #0 {
entry:
  %lane = load ptr, ptr %record, align 8
  %entry_slot = getelementptr ptr, ptr %record, i64 1
  %entry_point = load ptr, ptr %entry_slot, align 8
  %context_slot = getelementptr ptr, ptr %record, i64 2
  %context = load ptr, ptr %context_slot, align 8
  call void @plumb_launch(ptr %lane, ptr %entry_point, ptr %context)
  ret void
}
define internal void @plumb_publish(ptr %lane, i64 %f, i64 %c, i64 %epoch) #0 {
entry:
  %go = getelementptr i64, ptr %lane, i64 8
  %parked = getelementptr i64, ptr %lane, i64 16
  %entry_slot = getelementptr i64, ptr %lane, i64 24
  %context_slot = getelementptr i64, ptr %lane, i64 25
  %epoch_slot = getelementptr i64, ptr %lane, i64 26
  %o = atomicrmw add ptr %go, i64 1 seq_cst
  store atomic i64 %f, ptr %entry_slot release, align 8
  store atomic i64 %c, ptr %context_slot release, align 8
  store atomic i64 %epoch, ptr %epoch_slot release, align 8
  %o2 = atomicrmw add ptr %go, i64 1 seq_cst
  %p = load atomic i64, ptr %parked seq_cst, align 8
  %sleepers = icmp ne i64 %p, 0
  br i1 %sleepers, label %wake, label %done
wake:
  call void @plumb_wake(ptr %go)
  br label %done
done:
  ret void
}
"""

_STOP = """
define void @plumb_stop(ptr %lane) #0 {
entry:
  call void @plumb_publish(ptr %lane, i64 1, i64 0, i64 0)
  ret void
}
"""

_QUIESCE = """
define void @plumb_quiesce(ptr %lane) #0 {
entry:
  call void @plumb_publish(ptr %lane, i64 0, i64 0, i64 0)
  %threads = load i64, ptr %lane, align 8
  br label %next
next:
  %tid = phi i64 [ 1, %entry ], [ %following, %idle ]
  %more = icmp slt i64 %tid, %threads
  br i1 %more, label %look, label %done
look:
  %line = mul i64 %tid, 8
  %index = add i64 %line, 64
  %active = getelementptr i64, ptr %lane, i64 %index
  %a = load atomic i64, ptr %active seq_cst, align 8
  %busy = icmp ne i64 %a, 0
  br i1 %busy, label %nap, label %idle
nap:
  %s = call i32 @usleep(i32 20)
  br label %look
idle:
  %following = add i64 %tid, 1
  br label %next
done:
  ret void
}
"""
