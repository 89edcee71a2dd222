"""L2 compiler: a model file becomes a graph, a plan and an executable.
Sees `execution`, `kernels` and below; nothing below sees it.
"""
