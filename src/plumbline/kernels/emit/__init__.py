"""LLVM IR text: the builder, tensor access, vector mathematics, targets and the thread runtime."""
