"""The child process of one model: `python -m ...bench.worker MODEL OPTIONS` prints its rows as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from plumbline.product.bench.models import MODELS
from plumbline.product.bench.rows import measure_model
from plumbline.product.bench.suite import read_options

__all__ = ["main"]


def main(arguments: Sequence[str]) -> None:
    """Measure and print one line of JSON."""
    model, options = arguments
    print(json.dumps(measure_model(MODELS[model], read_options(options))))


if __name__ == "__main__":
    main(sys.argv[1:])
