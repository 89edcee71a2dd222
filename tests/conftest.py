"""Settings of every test: no test depends on the clock of the machine or touches the user's own cache."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import hypothesis

hypothesis.settings.register_profile("plumbline", deadline=None, print_blob=True)
hypothesis.settings.load_profile("plumbline")

# Set before any test imports the package. The workers of one run share the folder.
_session = os.environ.setdefault("PLUMB_TEST_SESSION", str(os.getpid()))
_cache = Path(tempfile.gettempdir()) / f"plumb-tests-{os.getuid()}" / _session
os.environ["XDG_CACHE_HOME"] = str(_cache)
