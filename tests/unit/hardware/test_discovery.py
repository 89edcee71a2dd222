import json

import pytest

from plumbline.hardware.device import DeviceKind
from plumbline.hardware.discovery import (
    Capabilities,
    DeviceAbsentError,
    find_absent_devices,
    find_devices,
    open_device,
)
from plumbline.hardware.doctor import examine_host
from plumbline.hardware.host.libraries import Search, find_library, find_nodes, find_package

KINDS = {"cpu", "cuda", "opencl", "webgpu", "metal", "mlx", "tpu"}


def test_every_kind_is_listed_and_every_absent_one_says_why():
    """L0-15..L0-18."""
    report = find_devices()
    assert {listing.kind.value for listing in report.devices} == KINDS
    assert report.devices[0].present
    assert all(listing.reason and listing.looked_for for listing in report.devices[1:])
    json.dumps(report.to_dict())


def test_the_reason_changes_with_what_is_found(monkeypatch):
    """L0-18: reasons come from looking, not from a table."""
    found = Search(looked_for=("x",), found=("libcuda.so.1",))
    monkeypatch.setattr("plumbline.hardware.discovery.search_for", lambda **_: found)
    with_driver = find_absent_devices("darwin")
    assert all("found (libcuda.so.1)" in listing.reason for listing in with_driver)
    nothing = Search(looked_for=("x",), found=())
    monkeypatch.setattr("plumbline.hardware.discovery.search_for", lambda **_: nothing)
    assert all("no " in listing.reason for listing in find_absent_devices("darwin"))
    metal = next(x for x in find_absent_devices("linux") if x.kind is DeviceKind.METAL)
    assert "macOS" in metal.reason


def test_capabilities_come_from_the_layer_that_knows_them():
    """L0-19: remove one and it disappears."""
    offered = Capabilities(operators=("Add", "MatMul"), dtypes=("float32",))
    document = find_devices(lambda _kind, _host: offered).to_dict()["devices"][0]
    assert (document["operators"], document["dtypes"]) == (["Add", "MatMul"], ["float32"])
    fewer = find_devices(lambda _kind, _host: Capabilities(operators=("Add",))).to_dict()["devices"][0]
    assert fewer["operators"] == ["Add"]
    assert find_devices().to_dict()["devices"][0]["operators"] == "unknown"


def test_the_doctor_names_everything_the_layer_owns(tmp_path):
    """L0-01."""
    report = examine_host(find_devices(), tmp_path / "cache")
    names = {finding.name for finding in report.findings}
    assert names == {
        "processors",
        "accelerators",
        "memory",
        "storage",
        "fabric",
        "operating_system",
        "drivers",
        "isolation",
        "accounting",
    }
    assert all(finding.summary for finding in report.findings)
    text = json.dumps(report.to_dict())
    assert str(tmp_path) not in text


def test_searching_finds_what_is_there_and_only_that(tmp_path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()
    assert find_nodes("dev/nvidia[0-9]*", tmp_path) == ("nvidia0",)
    assert find_library("libsurely-not-here.so.9") is None
    assert (find_package("json"), find_package("surely_not_here")) == ("json", None)


def test_an_absent_device_is_refused_with_its_reason_and_never_replaced():
    """L0-17: never chosen silently."""
    with open_device(DeviceKind.CPU) as device:
        assert device.device_kind is DeviceKind.CPU
    for kind in (DeviceKind.CUDA, DeviceKind.OPENCL, DeviceKind.SIMULATED):
        with pytest.raises(DeviceAbsentError) as caught:
            open_device(kind)
        assert caught.value.reason
