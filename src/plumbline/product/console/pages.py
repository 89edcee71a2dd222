"""The pages, put together from their parts."""

from __future__ import annotations

from importlib.resources import files

__all__ = ["reference_page", "status_page"]


def status_page() -> bytes:
    """The page of `/`: models, memory plans, workers, queue, launches, events. It fetches what it shows."""
    return _page("status", "plans")


def reference_page() -> bytes:
    """The page of `/docs`: the operations of `/openapi.json`."""
    return _page("reference")


def _page(name: str, *parts: str) -> bytes:
    """A page of `name.html` with the styles and scripts of these parts, and its own after them."""
    names = (*parts, name)
    style = "".join(_read(f"{part}.css") for part in ("style", *names))
    script = "".join(_read(f"{part}.js") for part in names)
    return _read(f"{name}.html").replace("{{style}}", style).replace("{{script}}", script).encode()


def _read(name: str) -> str:
    return (files("plumbline.product.console") / name).read_text(encoding="utf-8")
