"""The page of an OpenAPI document: one HTML file without scripts, fonts or requests to anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

__all__ = ["PAGE_HEADERS", "reference_page"]

PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
}

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code{background:#8882;padding:.1em .3em;border-radius:.2em}summary{cursor:pointer;padding:.3em 0}"
    "table{border-collapse:collapse;margin:.5em 0}td,th{text-align:left;padding:.1em .8em;"
    "border-bottom:1px solid #8884}:root{color-scheme:light dark}"
)


def reference_page(document: Mapping[str, Any]) -> str:
    """Every operation with its permission, parameters, body and answers. All text is escaped."""
    info = document.get("info", {})
    title = escape(f"{info.get('title', 'API')} {info.get('version', '')}")
    operations = "".join(_operations(document))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><h1>{title}</h1>"
        f"<p>The machine-readable form is <code>/openapi.json</code>.</p>{operations}</html>"
    )


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in document.get("paths", {}).items():
        for method, operation in methods.items():
            if not isinstance(operation, dict):
                continue
            permission = escape(str(operation.get("x-plumbline-permission", "")))
            head = (
                f"<code>{escape(method.upper())} {escape(path)}</code> {escape(_text(operation, 'summary'))}"
            )
            rows = "".join((*_parameters(operation), *_body(operation), *_answers(operation)))
            needs = f"<p>Permission: <code>{permission}</code></p>" if permission else ""
            about = f"<p>{escape(_text(operation, 'description'))}</p>"
            yield f"<details><summary>{head}</summary>{about}{needs}<table>{rows}</table></details>"


def _parameters(operation: Mapping[str, Any]) -> Iterator[str]:
    for parameter in operation.get("parameters", ()):
        wanted = "required" if parameter.get("required") else "optional"
        where = f"{parameter.get('in', '')}, {wanted}"
        yield _row(_text(parameter, "name"), where, _kind(parameter.get("schema", {})))


def _body(operation: Mapping[str, Any]) -> Iterator[str]:
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        yield _row("body", media, _kind(content.get("schema", {})))


def _answers(operation: Mapping[str, Any]) -> Iterator[str]:
    for status, answer in operation.get("responses", {}).items():
        kinds = [_kind(content.get("schema", {})) for content in answer.get("content", {}).values()]
        yield _row(str(status), _text(answer, "description"), ", ".join(kinds))


def _row(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _kind(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", maxsplit=1)[-1]
    if "anyOf" in schema:
        return " or ".join(_kind(part) for part in schema["anyOf"])
    return str(schema.get("type", "any"))


def _text(value: Mapping[str, Any], name: str) -> str:
    return str(value.get(name, ""))
