"""`version.toml` and `calibration.json` beside a version, read strictly into `VersionSettings`."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from plumbline.contracts.program import MAX_THREADS
from plumbline.contracts.versions import VersionSettings
from plumbline.serving.repository.contents import SETTINGS_FILE
from plumbline.serving.repository.refusals import SettingsRefused

__all__ = [
    "CALIBRATION_FILE",
    "MAX_TEXT_BYTES",
    "apply_settings",
    "read_calibration",
    "read_toml",
    "read_version_toml",
]

CALIBRATION_FILE = "calibration.json"
MAX_TEXT_BYTES: Final = 1 << 20
_MAX_NS: Final = 1 << 62
_MAX_RUN_S: Final = 86_400


def read_toml(path: Path, *, source: str) -> dict[str, Any]:
    """A TOML file of at most 1 MiB; empty where there is none.

    Raises:
        SettingsRefused: too large, or no TOML.
    """
    text = _read_text(path, source)
    if text is None:
        return {}
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsRefused(source=source, key="file", reason=str(error)[:200]) from error


def read_version_toml(folder: Path, *, subject: str) -> tuple[VersionSettings, str | None]:
    """Settings and `entry` of a version.

    Raises:
        SettingsRefused: naming the key, and the known ones where it is unknown.
    """
    source = f"{subject} {SETTINGS_FILE}"
    table = read_toml(folder / SETTINGS_FILE, source=source)
    entry = table.pop("entry", None)
    if entry is not None and not isinstance(entry, str):
        raise SettingsRefused(source=source, key="entry", reason="expected a text")
    return apply_settings(VersionSettings(), table, source=source, also=("entry",)), entry


def apply_settings(
    settings: VersionSettings, values: Mapping[str, Any], *, source: str, also: tuple[str, ...] = ()
) -> VersionSettings:
    """Settings with some values replaced.

    Args:
        settings: to start from.
        values: by name of a field of `VersionSettings`.
        source: for messages.
        also: further keys to name as known.

    Raises:
        SettingsRefused: an unknown key, or a value of the wrong type or range.
    """
    checked: dict[str, Any] = {}
    for key, value in values.items():
        reader = _READERS.get(key)
        if reader is None:
            known = ", ".join(sorted([*_READERS, *also]))
            raise SettingsRefused(source=source, key=ascii(key)[:80], reason=f"unknown key; known: {known}")
        try:
            checked[key] = reader(value)
        except _Unfit as error:
            raise SettingsRefused(source=source, key=key, reason=str(error)) from error
    return dataclasses.replace(settings, **checked)


def read_calibration(folder: Path, settings: VersionSettings, *, subject: str) -> VersionSettings:
    """Settings with the calibrated cost bounds, where `calibration.json` is there and none were set.

    Of the document, `cost_bound_ns` and `segment_bounds_ns` are read.

    Raises:
        SettingsRefused: the file is there and unusable.
    """
    source = f"{subject} {CALIBRATION_FILE}"
    text = _read_text(folder / CALIBRATION_FILE, source)
    if text is None or settings.cost_bound_ns:
        return settings
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsRefused(source=source, key="file", reason=str(error)[:200]) from error
    if not isinstance(document, dict) or "cost_bound_ns" not in document:
        raise SettingsRefused(source=source, key="cost_bound_ns", reason="it is missing")
    bounds = {key: document[key] for key in ("cost_bound_ns", "segment_bounds_ns") if key in document}
    return apply_settings(settings, bounds, source=source)


class _Unfit(ValueError):
    """A value that cannot be."""


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _Unfit(f"expected a whole number from {low} to {high}")
        return value

    return read


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.001 <= value <= _MAX_RUN_S:
        raise _Unfit(f"expected seconds from 0.001 to {_MAX_RUN_S}")
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Unfit("expected true or false")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 256:
        raise _Unfit("expected a text of 1 to 256 characters")
    return value


def _symbols(value: Any) -> dict[str, int]:
    if not isinstance(value, Mapping):
        raise _Unfit("expected a table of names and bounds")
    return {_name(name): _extent(name, extent) for name, extent in value.items()}


def _extent(name: str, value: Any) -> int:
    try:
        return _whole(1, 1 << 31)(value)
    except _Unfit as error:
        raise _Unfit(f"{ascii(name)[:80]}: {error}") from error


def _bounds(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or len(value) > 100_000:
        raise _Unfit("expected a list of nanoseconds")
    bound = _whole(0, _MAX_NS)
    return tuple(bound(item) for item in value)


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "instances": _whole(1, 256),
    "threads": _whole(1, MAX_THREADS),
    "symbols": _symbols,
    "batch_symbol": _name,
    "max_batch": _whole(0, 1 << 20),
    "max_delay_ns": _whole(0, 60_000_000_000),
    "separate_tenants": _flag,
    "max_segment_ns": _whole(1, _MAX_NS),
    "cost_bound_ns": _whole(0, _MAX_NS),
    "segment_bounds_ns": _bounds,
    "memory_bytes": _whole(1, 1 << 50),
    "stream": _whole(0, 1023),
    "group": _name,
    "max_run_s": _seconds,
}


def _read_text(path: Path, source: str) -> str | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
        if len(data) > MAX_TEXT_BYTES:
            raise SettingsRefused(source=source, key="file", reason=f"more than {MAX_TEXT_BYTES} bytes")
        return data.decode("utf-8-sig")  # editors that put a mark at the front mean UTF-8 too
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else "it cannot be read"
        raise SettingsRefused(source=source, key="file", reason=reason) from error
