"""Pages for browsers: the status of a server, and its API. Product layer (L6).

Both are one HTML file with styles and script inside, made here of the files beside this one; they load
nothing from anywhere and read the server that they came from.
"""

from plumbline.product.console.pages import reference_page, status_page

__all__ = ["reference_page", "status_page"]
