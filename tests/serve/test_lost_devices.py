"""Real devices that are lost under load."""

import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from trencadis_host import Session
from trencadis_host.errors import DeviceLostError
from trencadis_serve import model as model_module
from trencadis_serve import pool as pool_module
from trencadis_serve.limits import Limits
from trencadis_serve.model import ModelSpec, ServedModel

DEVICES = ("cpu", "emulator")

get = functools.partial(httpx.get, timeout=300)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "REOPEN_S", (0.02,))
    monkeypatch.setattr(pool_module, "POLL_S", 0.02)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Devices on which sessions fail, and cannot be opened, as long as they are in it."""
    names: set[str] = set()

    class Breakable(Session):
        def __init__(self, path: Any, device: str) -> None:
            self._check(device)
            super().__init__(path, device)
            self.asked = device

        @staticmethod
        def _check(device: str) -> None:
            if device in names:
                raise DeviceLostError(f"device {device}: was pulled out")

        def run(self, output_names: Any, input_feed: Any) -> Any:
            outputs = super().run(output_names, input_feed)
            self._check(self.asked)  # it was computing
            return outputs

    monkeypatch.setattr(model_module, "Session", Breakable)
    return names


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_requests_go_on_while_a_device_is_lost(
    serving: Callable[..., Any], compiled: Callable[..., tuple[Path, Path]], broken: set[str]
) -> None:
    image = compiled()[1]
    spec = ModelSpec("small", "1", image, DEVICES)
    x = np.random.default_rng(0).normal(0, 3, (4, 2, 8, 8)).astype(np.float32)
    with Session(image, "emulator") as session:
        expected = session.run(None, {"image": x})[0].ravel().tolist()
    entry = {"name": "image", "datatype": "FP32", "shape": x.shape, "data": x.ravel().tolist()}
    statuses: list[int] = []
    right: list[bool] = []
    ending = threading.Event()
    with serving([spec], Limits(batch=8, timeout_s=300)) as running:
        url = f"http://127.0.0.1:{running.port}"

        def load() -> None:
            with httpx.Client(base_url=url, timeout=300) as client:
                while not ending.is_set():
                    reply = client.post("/v2/models/small/infer", json={"inputs": [entry]})
                    statuses.append(reply.status_code)
                    if reply.status_code == 200:
                        right.append(reply.json()["outputs"][0]["data"] == expected)

        def ready() -> int:
            return get(f"{url}/v2/health/ready").status_code

        def devices() -> list[float]:
            lines = get(f"{url}/metrics").text.splitlines()
            return [float(line.split()[-1]) for line in lines if "device_ready{" in line]

        def more() -> None:
            count = len(right) + 20
            wait_until(lambda: len(right) >= count)

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        more()
        assert devices() == [1, 1]
        broken.add("cpu")
        wait_until(lambda: devices() == [0, 1])
        more()
        assert ready() == 200
        index = get(f"{url}/v2/repository/index").json()
        assert index[0]["state"] == "READY"
        assert index[0]["reason"] == "cpu: device cpu: was pulled out"
        assert set(statuses) == {200}, "what the lost device was computing is computed again"
        broken.add("emulator")
        wait_until(lambda: devices() == [0, 0])
        assert ready() == 503
        refused = httpx.post(f"{url}/v2/models/small/infer", json={"inputs": [entry]}, timeout=300)
        assert refused.status_code == 503
        assert "no working device" in refused.json()["error"]
        broken.clear()
        wait_until(lambda: devices() == [1, 1])
        assert ready() == 200
        more()
        ending.set()
        for thread in threads:
            thread.join()
    assert all(right)
    assert set(statuses) <= {200, 503}, "refused while no device was left, or computed later"


def test_a_file_that_was_replaced_is_not_opened_for_a_lost_device(
    compiled: Callable[..., tuple[Path, Path]], broken: set[str], tmp_path: Path
) -> None:
    image = tmp_path / "small.tcd"
    image.write_bytes(compiled()[1].read_bytes())
    x = np.zeros((2, 2, 8, 8), np.float32)
    model = ServedModel(ModelSpec("small", "1", image, DEVICES), Limits(batch=1, timeout_s=300))
    before = model.infer_now({"image": x})[0]
    image.write_bytes(compiled(integer=True)[1].read_bytes())
    broken.add("cpu")
    while model.devices[0].ready:
        model.infer_now({"image": x})
    broken.clear()
    wait_until(lambda: "was replaced" in model.devices[0].reason)
    assert np.array_equal(model.infer_now({"image": x})[0], before)
    assert [device.ready for device in model.devices] == [False, True]
    model.close()


def test_requests_that_wait_are_answered_when_no_device_is_left(
    compiled: Callable[..., tuple[Path, Path]], broken: set[str]
) -> None:
    model = ServedModel(ModelSpec("small", "1", compiled()[1], ("cpu",)), Limits())
    broken.add("cpu")
    request = model.request({"image": np.zeros((2, 2, 8, 8), np.float32)})
    model.queue.put(request)
    wait_until(lambda: not model.ready)
    model.close()
    with pytest.raises(Exception, match="no device was left"):
        request.result.result(10)


@pytest.mark.rtl
@pytest.mark.usefixtures("xrt_library")
def test_a_card_whose_process_is_killed_comes_back(
    image: Path, build_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener = functools.partial(Session, build_dir=build_dir)
    monkeypatch.setattr(model_module, "Session", opener)
    x = np.random.default_rng(0).normal(0, 1, (20_000, 16)).astype(np.float32)
    with Session(image, "emulator") as session:
        expected = session.run(None, {"x": x})[0]
    limits = Limits(batch=1, request_samples=len(x), timeout_s=600)
    model = ServedModel(ModelSpec("card", "1", image, ("hw_emu", "emulator")), limits)
    card: Any = model._pool._workers[0]
    first = card.runner._device.process
    requests = [model.request({"x": x}) for _ in range(6)]
    for request in requests:
        model.queue.put(request)
    time.sleep(0.2)  # the card computes, for seconds
    os.kill(first, signal.SIGKILL)
    for request in requests:
        assert np.array_equal(request.result.result(600)[0], expected)
    assert model.devices[0].losses == 1
    wait_until(lambda: model.devices[0].ready)
    assert card.runner._device.process != first
    x, expected = x[:100], expected[:100]
    while model.devices[0].batches == 0:
        assert np.array_equal(model.infer_now({"x": x})[0], expected)
    model.close()
