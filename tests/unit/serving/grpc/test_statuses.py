"""Which status a gRPC client sees: generic clients decide by it alone whether to retry (L4-01)."""

from __future__ import annotations

import grpc
import pytest

from plumbline.errors import PlumblineError
from plumbline.scheduling.refusals import DuplicateRequest
from plumbline.serving.grpc.statuses import status_of
from plumbline.serving.models.refusals import VersionLoading, VersionNotReady
from plumbline.serving.repository.refusals import VersionRetired


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (VersionNotReady(model="m", version="1", state="not loaded"), grpc.StatusCode.FAILED_PRECONDITION),
        (VersionRetired(model="m", version="1"), grpc.StatusCode.FAILED_PRECONDITION),
        (VersionLoading(model="m", version="1", state="loading"), grpc.StatusCode.UNAVAILABLE),
        (DuplicateRequest(request_id="r", state="running"), grpc.StatusCode.ALREADY_EXISTS),
    ],
    ids=lambda value: value.code if isinstance(value, PlumblineError) else value.name,
)
def test_conflict_is_already_exists_only_where_something_has_the_same_name(
    error: PlumblineError, status: grpc.StatusCode
) -> None:
    assert status_of(error) is status
