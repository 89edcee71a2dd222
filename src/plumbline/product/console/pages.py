"""The pages, put together from their parts."""

from __future__ import annotations

from importlib.resources import files

__all__ = ["reference_page", "status_page"]


def status_page() -> bytes:
    """The page of `/`: models, workers, queue, launches, events. It fetches everything it shows."""
    return _page("status")


def reference_page() -> bytes:
    """The page of `/docs`: the operations of `/openapi.json`."""
    return _page("reference")


def _page(name: str) -> bytes:
    style = _read("style.css") + _read(f"{name}.css")
    page = _read(f"{name}.html").replace("{{style}}", style)
    return page.replace("{{script}}", _read(f"{name}.js")).encode()


def _read(name: str) -> str:
    return (files("plumbline.product.console") / name).read_text(encoding="utf-8")
