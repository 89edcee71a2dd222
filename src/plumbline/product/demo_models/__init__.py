"""Models for trying the runtime out: a repository that a program writes. Product layer (L6)."""

from plumbline.product.demo_models.repository import write_demo_repository

__all__ = ["write_demo_repository"]
