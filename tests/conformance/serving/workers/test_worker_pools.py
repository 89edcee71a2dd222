"""All pools of workers pass one suite (requirement L4-73)."""

from __future__ import annotations

import sys
from typing import Any

from plumbline.serving.ports import WorkerPool
from plumbline.serving.workers.grouped import GroupedPool
from plumbline.serving.workers.local import InProcessPool
from plumbline.serving.workers.pool import ProcessPool
from plumbline.testing.worker_pools import WorkerPoolConformance
from plumbline.testing.worker_sessions import make_test_scheduler, open_test_session

WORKER = (sys.executable, "-m", "plumbline.testing.worker_entry")


class TestInProcessPool(WorkerPoolConformance):
    def make_pool(self, **arguments: Any) -> WorkerPool:
        return InProcessPool(open_test_session, make_test_scheduler, **arguments)


class TestProcessPool(WorkerPoolConformance):
    def make_pool(self, **arguments: Any) -> WorkerPool:
        return ProcessPool(WORKER, count=1, **arguments)


class TestGroupedPool(WorkerPoolConformance):
    def make_pool(self, **arguments: Any) -> WorkerPool:
        return GroupedPool(lambda group: ProcessPool(WORKER, count=1, **arguments))
