"""`group` and `max_run_s` of version.toml: where a version runs, and for how long a class may."""

from __future__ import annotations

from pathlib import Path

import pytest

from plumbline.serving.repository.refusals import SettingsRefused
from plumbline.serving.repository.settings import read_version_toml


def read(folder: Path, text: str) -> tuple[str | None, float | None]:
    (folder / "version.toml").write_text(text)
    settings, _ = read_version_toml(folder, subject="m@1")
    return settings.group, settings.max_run_s


def test_group_and_limit_are_read_and_absent_by_default(tmp_path: Path) -> None:
    assert read(tmp_path, "") == (None, None)
    assert read(tmp_path, 'group = "vision"\nmax_run_s = 2\n') == ("vision", 2.0)
    assert read(tmp_path, "max_run_s = 0.25\n") == (None, 0.25)


@pytest.mark.parametrize("value", ["0", "-1", "0.0001", "86401", "nan", "inf", "true", '"5"', "[1]"])
def test_a_limit_that_cannot_be_is_refused_by_name(tmp_path: Path, value: str) -> None:
    with pytest.raises(SettingsRefused, match="max_run_s"):
        read(tmp_path, f"max_run_s = {value}\n")


@pytest.mark.parametrize("value", ['""', "3", "[]", '"' + "a" * 300 + '"'])
def test_a_group_that_is_no_short_text_is_refused_by_name(tmp_path: Path, value: str) -> None:
    with pytest.raises(SettingsRefused, match="group"):
        read(tmp_path, f"group = {value}\n")
