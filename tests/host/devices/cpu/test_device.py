"""The device `cpu` against the emulator, on every path that this processor runs."""

import multiprocessing
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trencadis_host.devices.cpu import device as cpu_device
from trencadis_host.devices.cpu import source as cpu_source
from trencadis_host.devices.cpu.device import CpuDevice, open_device
from trencadis_host.devices.cpu.paths import Path, runnable_paths
from trencadis_host.devices.cpu.source import overlay_program
from trencadis_host.devices.emulator.decode import decode
from trencadis_host.devices.emulator.device import Emulator
from trencadis_host.devices.protocol import DeviceOptions
from trencadis_host.errors import DeviceError, DeviceMemoryError, DeviceNameError


@pytest.fixture(params=runnable_paths(), ids=lambda path: path.name)
def path(request: pytest.FixtureRequest) -> Path:
    """Every path in turn."""
    return request.param


def test_equals_exact_arithmetic(make_case: Callable[..., Any], spec: Any, path: Path) -> None:
    case = make_case(spec, "cores-chained", samples=37)
    with CpuDevice(overlay_program(case.overlay), path, 1) as device:
        outputs, statistics = device.run(case.inputs)
        single = np.concatenate([device.run(case.inputs[i : i + 1])[0] for i in range(5)])
    assert np.array_equal(outputs, case.expected)
    assert np.array_equal(single, case.expected[:5])
    assert len(np.unique(outputs, axis=0)) > 10
    assert statistics.samples == 37


def test_threads_share_a_batch(make_case: Callable[..., Any], specs: Any) -> None:
    case = make_case(specs["relu-stride-dilation"], "groups", samples=150)
    with CpuDevice(overlay_program(case.overlay), runnable_paths()[0], 3) as device:
        assert np.array_equal(device.run(case.inputs)[0], case.expected)


def test_threads_within_threads(make_case: Callable[..., Any], specs: Any) -> None:
    case = make_case(specs["exact-winners"], "groups", samples=90)
    results: list[Any] = []
    with CpuDevice(overlay_program(case.overlay), runnable_paths()[0], 2) as device:
        callers = [
            threading.Thread(target=lambda: results.append(device.run(case.inputs)[0]))
            for _ in range(4)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert len(results) == 4
    assert all(np.array_equal(outputs, case.expected) for outputs in results)


def _run_and_compare(device: CpuDevice, samples: Any, expected: Any) -> None:
    os._exit(0 if np.array_equal(device.run(samples)[0], expected) else 1)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_fork_after_use(make_case: Callable[..., Any], specs: Any) -> None:
    case = make_case(specs["exact-winners"], "groups", samples=90)
    with CpuDevice(overlay_program(case.overlay), runnable_paths()[0], 2) as device:
        device.run(case.inputs)
        context = multiprocessing.get_context("fork")
        child = context.Process(target=_run_and_compare, args=(device, case.inputs, case.expected))
        child.start()
        child.join(30)
        assert child.exitcode == 0
        assert np.array_equal(device.run(case.inputs)[0], case.expected)


def test_samples_need_not_be_contiguous(make_case: Callable[..., Any], specs: Any) -> None:
    case = make_case(specs["exact-winners"], "groups", samples=20)
    wide = np.zeros((40, case.inputs.shape[1] + 3), np.uint8)
    wide[::2, :-3] = case.inputs
    with CpuDevice(overlay_program(case.overlay), runnable_paths()[0], 1) as device:
        assert np.array_equal(device.run(wide[::2, :-3])[0], case.expected)


def test_weights_of_more_than_8_bits_are_left_to_the_emulator(
    make_case: Callable[..., Any], specs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(specs["exact-winners"], "groups", samples=20)
    source, layers = decode(case.overlay.image, case.overlay.kernel)
    layers[0].weights[0, 0, 0] = 200
    monkeypatch.setattr(cpu_source, "decode", lambda *arguments: (source, layers))
    monkeypatch.setattr(
        "trencadis_host.devices.emulator.device.decode", lambda *arguments: (source, layers)
    )
    with CpuDevice(overlay_program(case.overlay), runnable_paths()[0], 1) as device:
        outputs = device.run(case.inputs)[0]
    assert np.array_equal(outputs, Emulator(case.overlay).run(case.inputs)[0])
    assert not np.array_equal(outputs, case.expected)


def test_sums_that_wrap_around(
    make_case: Callable[..., Any], specs: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(specs["relu-stride-dilation"], "groups", samples=20)
    source, layers = decode(case.overlay.image, case.overlay.kernel)
    narrow = [type(layer)(**{**vars(layer), "sum_bits": 14}) for layer in layers]
    monkeypatch.setattr(cpu_source, "decode", lambda *arguments: (source, narrow))
    monkeypatch.setattr(
        "trencadis_host.devices.emulator.device.decode", lambda *arguments: (source, narrow)
    )
    with CpuDevice(overlay_program(case.overlay), path, 1) as device:
        outputs = device.run(case.inputs)[0]
    assert np.array_equal(outputs, Emulator(case.overlay).run(case.inputs)[0])
    assert not np.array_equal(outputs, case.expected)


def test_sparse_samples_in_a_wrong_format(make_case: Callable[..., Any], specs: Any) -> None:
    case = make_case(specs["sparse-vector"], "groups", samples=3)
    with (
        CpuDevice(overlay_program(case.overlay), runnable_paths()[0], 1) as device,
        pytest.raises(DeviceError, match="device cpu: a sample does not end with its position"),
    ):
        device.run(np.zeros_like(case.inputs))


def test_too_little_memory(
    make_case: Callable[..., Any], specs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(specs["exact-winners"], "groups", samples=3)
    monkeypatch.setattr(cpu_device, "_available_bytes", lambda: 1 << 20)
    with CpuDevice(overlay_program(case.overlay), runnable_paths()[0], 1) as device:
        samples = np.broadcast_to(case.inputs[:1], (1 << 24, case.inputs.shape[1]))
        assert device.memory_bytes(1 << 24) > 1 << 26
        with pytest.raises(DeviceMemoryError, match=r"16777216 samples need \d+ MiB of memory"):
            device.run(samples)


def test_memory_does_not_grow_with_the_batch(make_case: Callable[..., Any], specs: Any) -> None:
    case = make_case(specs["exact-winners"], "groups", samples=3)
    with CpuDevice(overlay_program(case.overlay), runnable_paths()[0], 2) as device:
        per_sample = case.overlay.output_bytes
        assert device.memory_bytes(2000) - device.memory_bytes(1000) == 1000 * per_sample


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("avx3", r"device cpu:avx3: there is no such path; take cpu, or one of "),
        ("neon", r"device cpu:neon: this processor does not run it; take cpu, or one of "),
    ],
)
def test_paths_that_are_not_there(
    make_case: Callable[..., Any], specs: Any, argument: str, message: str
) -> None:
    case = make_case(specs["exact-winners"], "groups", samples=1)
    with pytest.raises(DeviceNameError, match=message):
        open_device(argument, case.overlay, DeviceOptions())
