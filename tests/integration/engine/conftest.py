"""The tiny encoders of the differential tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_PATH = Path(__file__).parents[2] / "differential" / "huggingface" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("tiny_encoders_of_engine", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = _MODULE
_SPEC.loader.exec_module(_MODULE)
tiny = _MODULE.tiny
