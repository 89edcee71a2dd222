"""Refuses a run-time dependency whose licence is not on the list of decision 0003, or an exception of 0010.

Reads the metadata of what is installed; a distribution that the lock names and this platform does not need is
skipped. Run it in an environment that holds requirements/serve.txt and requirements/postgres.txt.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata

from layers import ROOT
from locks import read_lock

ALLOWED = re.compile(
    r"\b(Apache|MIT|BSD|ISC|PSF|Python Software Foundation|MPL-2\.0|Mozilla|0BSD|Zlib|Unlicense)\b", re.I
)
REFUSED = re.compile(r"\b(A?GPL|LGPL|SSPL|BUSL|Commons[- ]Clause|Proprietary)", re.I)

LOCKS = ("serve", "postgres")
EXCEPTIONS = {"psycopg": "LGPL-3.0-only", "psycopg-binary": "LGPL-3.0-only"}
"""Decision 0010: the optional driver of Postgres, used unchanged as a library of its own."""


def main() -> int:
    """Print each distribution whose licence is refused or unknown; returns the exit code."""
    offences = []
    pins = [pin for lock in LOCKS for pin in read_lock(ROOT / "requirements" / f"{lock}.txt")]
    for pin in pins:
        try:
            licence = declared_licence(metadata.metadata(pin.name))
        except metadata.PackageNotFoundError:
            if not pin.marker:
                offences.append(f"{pin.name}: locked and not installed")
            continue
        if EXCEPTIONS.get(pin.name) == licence:
            continue
        if REFUSED.search(licence) or not ALLOWED.search(licence):
            offences.append(
                f"{pin.name} {pin.version}: licence {licence[:80]!r} is not on the list of decision 0003"
            )
    print("\n".join(offences), file=sys.stderr)
    return 1 if offences else 0


def declared_licence(fields: metadata.PackageMetadata) -> str:
    """The licence as the metadata declares it: expression, else classifiers, else text."""
    if fields["License-Expression"]:
        return str(fields["License-Expression"])
    classifiers = [text for text in fields.get_all("Classifier") or [] if text.startswith("License ::")]
    if classifiers:
        return "; ".join(text.rsplit("::", 1)[-1].strip() for text in classifiers)
    return str(fields["License"] or "none declared").strip().splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
