"""Settings of every test: none depends on the clock of the machine, on chance or on who started the run.

None touches the user's own cache either.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
import zlib
from pathlib import Path

import hypothesis
import numpy as np
import pytest

# The same commit gets the same verdict: examples follow from the text of a test, and no example is too slow.
# `pytest --hypothesis-profile search` draws others each time.
hypothesis.settings.register_profile(
    "search", deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile(
    "plumbline", hypothesis.settings.get_profile("search"), derandomize=True, database=None
)
hypothesis.settings.load_profile("plumbline")

# A run in the background of a shell ignores interrupts, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Set before any test imports the package. The workers of one run share the folder; who made it removes it.
_owns_cache = "PLUMB_TEST_SESSION" not in os.environ
_session = os.environ.setdefault("PLUMB_TEST_SESSION", f"{os.getpid()}-{time.time_ns()}")
_cache = Path(tempfile.gettempdir()) / f"plumb-tests-{os.getuid()}" / _session
os.environ["XDG_CACHE_HOME"] = str(_cache)


def pytest_unconfigure(config: pytest.Config) -> None:
    """What a run compiled goes with it: it is some fifty megabytes."""
    if _owns_cache:
        shutil.rmtree(_cache, ignore_errors=True)


@pytest.fixture(autouse=True)
def _own_numbers(request: pytest.FixtureRequest) -> None:
    """A generator that the tests of a file share begins anew: no test sees how many numbers others drew."""
    for name in ("rng", "RNG"):
        shared = getattr(request.module, name, None)
        if isinstance(shared, np.random.Generator):
            fresh = np.random.default_rng(zlib.crc32(request.node.name.encode()))
            shared.bit_generator.state = fresh.bit_generator.state
