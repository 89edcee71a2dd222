"""The demonstration of `make run`: semantic search over Python's own documentation. Product layer (L6)."""

from plumbline.product.demo.demonstration import DemoReport, run_demo

__all__ = ["DemoReport", "run_demo"]
