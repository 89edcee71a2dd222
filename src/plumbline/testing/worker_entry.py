"""A worker process for tests: `python -m plumbline.testing.worker_entry CHANNEL`."""

from __future__ import annotations

import faulthandler
import signal
import sys

from plumbline.serving.workers.channel import WorkerChannel
from plumbline.serving.workers.process import run_worker
from plumbline.testing.worker_sessions import make_test_scheduler, open_test_session

__all__ = ["main"]


def main() -> int:
    """Serve until told to stop; the exit code."""
    faulthandler.register(signal.SIGUSR1)
    return run_worker(WorkerChannel.from_arguments(sys.argv[1:]), open_test_session, make_test_scheduler)


if __name__ == "__main__":
    sys.exit(main())
