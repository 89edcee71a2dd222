"""The demonstration of `make run`: semantic search over the documentation of Python. Product layer (L6)."""

from plumbline.product.demo.demonstration import DemoOptions, DemoReport, run_demo

__all__ = ["DemoOptions", "DemoReport", "run_demo"]
