"""Rules of `kernels.rows` for families of operations. Kernels layer (L1)."""
