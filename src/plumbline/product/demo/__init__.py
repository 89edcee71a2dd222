"""The demonstration of `make run`: semantic search over the documentation of Python. Product layer (L6)."""
