"""L1 kernels: what each operation means, its reference in numpy, its native code as LLVM text.
Sees `hardware` and below.
"""
