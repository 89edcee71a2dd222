"""Planned programs into native code: one LLVM function per distinct step, one SPMD driver per segment."""
