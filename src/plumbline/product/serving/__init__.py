"""Composition of a server: `plumb serve` and the worker processes behind it. Product layer (L6)."""
