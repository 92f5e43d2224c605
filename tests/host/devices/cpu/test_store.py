"""Compiled kernels are kept safely, and are not needed."""

import os
from pathlib import Path

import numpy as np
import pytest

from trencadis_format.overlay import Overlay
from trencadis_host.devices.cpu import jit
from trencadis_host.devices.cpu.calibrate import machine_costs
from trencadis_host.devices.cpu.costs import DEFAULT_COSTS
from trencadis_host.devices.cpu.device import open_device
from trencadis_host.devices.cpu.paths import runnable_paths
from trencadis_host.devices.cpu.store import UnkeptCode, open_store
from trencadis_host.devices.protocol import DeviceOptions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "kernels"
    path.mkdir(mode=0o700)
    return path


def results(overlay: Overlay, samples, folder: Path) -> np.ndarray:
    with open_device("", overlay, DeviceOptions(kernel_dir=folder)) as device:
        return device.run(samples(20))[0]


def test_kernels_are_compiled_once(
    overlay: Overlay, samples, expected, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert np.array_equal(results(overlay, samples, folder), expected(samples(20)))
    kept = sorted(path.name for path in folder.iterdir())
    assert kept
    monkeypatch.setattr(jit, "_optimised", None)
    assert np.array_equal(results(overlay, samples, folder), expected(samples(20)))
    assert sorted(path.name for path in folder.iterdir()) == kept


def test_damaged_kernels_are_compiled_again(
    overlay: Overlay, samples, expected, folder: Path
) -> None:
    results(overlay, samples, folder)
    for file in folder.glob("*/code.o"):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 255
        file.write_bytes(data)
    assert np.array_equal(results(overlay, samples, folder), expected(samples(20)))


def test_a_folder_of_others_is_not_used(overlay: Overlay, samples, expected, folder: Path) -> None:
    (folder / "x").write_text("someone's")
    folder.chmod(0o777)
    told: list[str] = []
    options = DeviceOptions(kernel_dir=folder, progress=told.append)
    with open_device("", overlay, options) as device:
        assert np.array_equal(device.run(samples(20))[0], expected(samples(20)))
    assert len(told) == 1
    assert told[0].startswith("kernels are not kept: ")
    assert os.listdir(folder) == ["x"]


def test_a_folder_that_cannot_be_written(overlay: Overlay, samples, expected) -> None:
    options = DeviceOptions(kernel_dir=Path("/proc/nowhere/kernels"))
    with open_device("", overlay, options) as device:
        assert np.array_equal(device.run(samples(20))[0], expected(samples(20)))


@pytest.mark.parametrize("text", [b"", b"{}", b'{"dense": "much"}', b'{"dense": 1e9}', b"\xff"])
def test_costs_that_make_no_sense(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    store = UnkeptCode()
    monkeypatch.setattr(store, "code", lambda name, compile_code: text)
    assert machine_costs(runnable_paths()[0], store) == DEFAULT_COSTS


def test_costs_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, store = runnable_paths()[0], open_store(folder, print)
    first = machine_costs(path, store)
    monkeypatch.setattr("trencadis_host.devices.cpu.calibrate.measure_costs", None)
    assert machine_costs(path, store) == first
