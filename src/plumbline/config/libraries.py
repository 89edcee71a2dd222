"""What libraries of others read from the environment: set at the start of a process, before they load."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

__all__ = ["LIBRARY_SETTINGS", "set_library_settings"]

LIBRARY_SETTINGS = {
    "GRPC_ENABLE_FORK_SUPPORT": "0",  # workers are started by exec; without this every fork waits for gRPC
}


def set_library_settings(environment: MutableMapping[str, str] | None = None) -> None:
    """Set what is not set already; the environment that the user gave wins.

    Args:
        environment: to change; this process's by default.
    """
    env = os.environ if environment is None else environment
    for name, value in LIBRARY_SETTINGS.items():
        env.setdefault(name, value)
