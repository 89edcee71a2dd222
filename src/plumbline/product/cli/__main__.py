"""`python -m plumbline.product.cli` is `plumb`."""

from __future__ import annotations

import sys

from plumbline.product.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
