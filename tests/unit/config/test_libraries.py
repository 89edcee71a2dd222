"""Settings of other libraries: ours where nobody decided, the user's where somebody did."""

from __future__ import annotations

from plumbline.config.libraries import LIBRARY_SETTINGS, set_library_settings


def test_a_setting_that_nobody_made_is_made() -> None:
    environment: dict[str, str] = {}
    set_library_settings(environment)
    assert environment == LIBRARY_SETTINGS


def test_a_setting_of_the_user_stays() -> None:
    environment = {"GRPC_ENABLE_FORK_SUPPORT": "1"}
    set_library_settings(environment)
    assert environment == {"GRPC_ENABLE_FORK_SUPPORT": "1"}
