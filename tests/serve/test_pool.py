"""Devices that are lost, and come back."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from trencadis_format.errors import InputError
from trencadis_host import DeviceError
from trencadis_serve import pool as pool_module
from trencadis_serve.batching import Request, RequestQueue
from trencadis_serve.errors import InvalidRequestError, LateError, UnavailableError
from trencadis_serve.limits import Limits
from trencadis_serve.pool import DevicePool

Array = npt.NDArray[Any]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "REOPEN_S", (0.01,))
    monkeypatch.setattr(pool_module, "POLL_S", 0.02)


class Doubler:
    """Doubles; fails when told to."""

    def __init__(self) -> None:
        self.fail = False
        self.closed = 0
        self.batches: list[int] = []
        self.hold = threading.Event()
        self.hold.set()

    def run(self, output_names: None, input_feed: Mapping[str, Array], /) -> list[Array]:
        self.hold.wait(300)
        x = input_feed["x"]
        if self.fail:
            raise DeviceError("it burns")
        if (x < 0).any():
            raise InputError("input 'x': negative")
        self.batches.append(len(x))
        return [2 * x]

    def close(self) -> None:
        self.closed += 1


def request(*values: float, timeout_s: float = 300.0) -> Request:
    x = np.array(values, np.float32)
    return Request({"x": x}, len(x), time.monotonic() + timeout_s)


def pool_of(*devices: Doubler, limits: Limits | None = None) -> tuple[DevicePool, RequestQueue]:
    queue = RequestQueue(limits or Limits(), batchable=True)

    def opener(device: Doubler) -> Callable[[], Doubler]:
        return lambda: device

    return DevicePool([(f"d{i}", opener(d)) for i, d in enumerate(devices)], queue), queue


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def taken(queue: RequestQueue) -> None:
    """Wait until what is in the queue is being computed."""
    wait_until(lambda: len(queue) == 0)


def outputs(answer: Request) -> list[float]:
    return answer.result.result(300)[0].tolist()


def test_requests_that_wait_share_a_batch() -> None:
    device = Doubler()
    device.hold.clear()
    pool, queue = pool_of(device)
    first = request(1)
    queue.put(first)
    taken(queue)
    later = [request(i, i + 1) for i in range(5)]
    for each in later:
        queue.put(each)
    device.hold.set()
    assert outputs(first) == [2]
    assert [outputs(each) for each in later] == [[2 * i, 2 * i + 2] for i in range(5)]
    assert device.batches == [1, 10]
    pool.close()
    assert device.closed == 1


def test_a_lost_device_is_replaced_and_comes_back() -> None:
    lost, other = Doubler(), Doubler()
    queue = RequestQueue(Limits(batch=1), batchable=True)

    def opener() -> Doubler:
        if lost.fail:
            raise DeviceError("it still burns")
        return lost

    pool = DevicePool([("lost", opener), ("other", lambda: other)], queue)

    def ask() -> list[Request]:
        """Ask for more than the other device can take while it is held."""
        other.hold.clear()
        answers = [request(i) for i in range(3)]
        for each in answers:
            queue.put(each)
        return answers

    lost.fail = True
    answers = ask()
    wait_until(lambda: pool.states[0].losses == 1)
    assert pool.ready
    wait_until(lambda: pool.states[0].reason == "it still burns")
    other.hold.set()
    assert [outputs(each) for each in answers] == [[0], [2], [4]]
    assert (pool.states[0].batches, pool.states[1].batches) == (0, 3)
    lost.fail = False
    wait_until(lambda: pool.states[0].ready)
    answers = ask()
    wait_until(lambda: pool.states[0].batches > 0)
    other.hold.set()
    assert [outputs(each) for each in answers] == [[0], [2], [4]]
    pool.close()


def test_a_request_that_loses_every_device_is_given_up() -> None:
    device = Doubler()
    device.fail = True
    pool, queue = pool_of(device)
    bad = request(1)
    queue.put(bad)
    with pytest.raises(UnavailableError, match="3 devices failed on the request: it burns"):
        bad.result.result(300)
    pool.close()


def test_a_bad_request_does_not_spoil_its_neighbours() -> None:
    device = Doubler()
    device.hold.clear()
    pool, queue = pool_of(device)
    queue.put(request(0))
    taken(queue)
    good, bad, fine = request(1), request(-1), request(3)
    for each in (good, bad, fine):
        queue.put(each)
    device.hold.set()
    assert outputs(good) == [2]
    assert outputs(fine) == [6]
    with pytest.raises(InvalidRequestError, match="negative"):
        bad.result.result(300)
    pool.close()


def test_late_requests_are_not_computed() -> None:
    device = Doubler()
    device.hold.clear()
    pool, queue = pool_of(device)
    queue.put(request(0))
    taken(queue)
    late = request(1, timeout_s=0.01)
    queue.put(late)
    time.sleep(0.05)
    device.hold.set()
    with pytest.raises(LateError):
        late.result.result(300)
    pool.close()
    assert device.batches == [1]


def test_closing_finishes_what_was_accepted() -> None:
    device = Doubler()
    pool, queue = pool_of(device, limits=Limits(batch=2))
    answers = [request(i) for i in range(20)]
    for each in answers:
        queue.put(each)
    pool.close()
    assert [outputs(each) for each in answers] == [[2 * i] for i in range(20)]
    with pytest.raises(UnavailableError):
        queue.put(request(1))


def test_a_device_that_cannot_be_opened_closes_the_others() -> None:
    device = Doubler()

    def broken() -> Doubler:
        raise DeviceError("not there")

    with pytest.raises(DeviceError, match="not there"):
        DevicePool([("a", lambda: device), ("b", broken)], RequestQueue(Limits(), batchable=True))
    assert device.closed == 1
