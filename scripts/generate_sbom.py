"""Writes the software bill of materials of a run-time install (CycloneDX 1.5 JSON) from its locks.

Usage: generate_sbom.py OUT
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

from layers import ROOT
from locks import Pin, read_lock

LOCKS = ("serve.txt", "postgres.txt", "minilm.txt")
"""Of everything that an install can bring; `serve` holds `run`."""


def main(arguments: list[str]) -> int:
    """Write the document; returns the exit code."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    out = Path(arguments[0])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document(), indent=2) + "\n", encoding="utf-8")
    print(out)
    return 0


def document() -> dict[str, object]:
    """The bill of materials: the same bytes for the same locks."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    pins = sorted(
        {pin.name: pin for lock in LOCKS for pin in read_lock(ROOT / "requirements" / lock)}.values(),
        key=lambda pin: pin.name,
    )
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "name": project["name"], "version": project["version"]}
        },
        "components": [_component(pin) for pin in pins],
    }


def _component(pin: Pin) -> dict[str, object]:
    return {
        "type": "library",
        "name": pin.name,
        "version": pin.version,
        "purl": f"pkg:pypi/{pin.name}@{pin.version}",
        "properties": [{"name": "plumbline:sha256", "value": digest} for digest in pin.sha256],
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
