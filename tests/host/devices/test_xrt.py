import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from trencadis_format.image import ABI_VERSION
from trencadis_format.overlay import Overlay
from trencadis_format.registers import STATISTICS, Status
from trencadis_format.user_cache import CacheError
from trencadis_host import errors as faults
from trencadis_host.devices.protocol import DeviceError, DeviceOptions
from trencadis_host.devices.xrt.batch import merge
from trencadis_host.devices.xrt.device import XrtDevice, open_device, parse_numbers

PackedBatch = npt.NDArray[np.uint8]


@pytest.fixture
def open_fake(fake_xrt: Any, xclbin: Path, overlay: Overlay) -> Callable[..., XrtDevice]:
    def make(*, numbers: tuple[int, ...] = (0,), timeout_s: float = 30.0) -> XrtDevice:
        return XrtDevice("xrt:fake", fake_xrt, numbers, xclbin, overlay, timeout_s)

    return make


@pytest.mark.parametrize("count", [1, 2, 3, 64])
def test_results_are_those_of_the_emulator(open_fake, samples, expected, count: int) -> None:
    with open_fake() as device:
        for seed in range(3):
            packed = samples(count, seed)
            results, statistics = device.run(packed)
            assert np.array_equal(results, expected(packed))
            assert statistics.samples == count


def test_a_batch_is_spread_over_all_compute_units_of_all_cards(
    open_fake, fake_xrt, samples, expected
) -> None:
    fake_xrt.platforms *= 2
    with open_fake(numbers=(0, 1)) as device:
        assert device.units == 4
        packed = samples(10)
        results, statistics = device.run(packed)
        assert np.array_equal(results, expected(packed))
        # Four pieces of 2 or 3 samples, each of which also loads the image.
        assert statistics.cycles == 100 + 3 * 10
        assert statistics.load_cycles == 50
        assert fake_xrt.events.count("done") == 4


def test_samples_travel_while_others_are_computed(
    open_fake, fake_xrt, samples, expected, monkeypatch
) -> None:
    monkeypatch.setattr("trencadis_host.devices.xrt.device.PIECE_BYTES", 4 * 16)
    fake_xrt.polls = 50
    with open_fake() as device:
        packed = samples(32)
        assert np.array_equal(device.run(packed)[0], expected(packed))
    starts = [i for i, event in enumerate(fake_xrt.events) if event == "start"]
    ends = [i for i, event in enumerate(fake_xrt.events) if event == "done"]
    assert len(starts) == len(ends) == 8
    # Both compute units get two runs before the first ones are over, and then more for these.
    assert [sum(start < end for start in starts) for end in ends[:-4]] == [4, 4, 6, 6]


def test_buffers_are_kept(open_fake, fake_xrt, samples) -> None:
    with open_fake() as device:
        device.run(samples(64))
        device.run(samples(64))
        allocated = fake_xrt.allocations
        for seed in range(20):
            device.run(samples(1 + seed, seed))
        assert fake_xrt.allocations == allocated
    assert fake_xrt.memory == [1 << 24, 1 << 24]
    assert not fake_xrt.opened


def test_buffers_grow_by_doubling(open_fake, fake_xrt, samples) -> None:
    with open_fake() as device:
        for count in range(1, 65):
            device.run(samples(count))
        # Image and statistics of two compute units; inputs and outputs of 1 to 32 samples.
        assert fake_xrt.allocations <= 2 * (1 + 2) + 2 * 2 * 2 * 6


def test_submitted_batches_end_in_order(open_fake, samples, expected) -> None:
    with open_fake() as device:
        batches = [samples(count, count) for count in (5, 1, 8, 3)]
        futures = [device.submit(packed) for packed in batches]
        for packed, future in zip(batches, futures, strict=True):
            assert np.array_equal(future.result(30)[0], expected(packed))


def test_a_run_that_takes_too_long_is_aborted(open_fake, fake_xrt, samples, expected) -> None:
    with open_fake(timeout_s=0.5) as device:
        fake_xrt.hanging = (0,)
        with pytest.raises(faults.DeviceTimeoutError, match=r"no result after 0\.5 s"):
            device.run(samples(1))
        assert "abort" in fake_xrt.events
        assert np.array_equal(device.run(samples(4))[0], expected(samples(4)))
        assert fake_xrt.events.count("open") == 1


@pytest.mark.parametrize("registers", [False, True])
def test_a_card_whose_kernel_never_ends_is_opened_afresh(
    open_fake, fake_xrt, samples, expected, monkeypatch, registers: bool
) -> None:
    monkeypatch.setattr("trencadis_host.devices.xrt.device.GRACE_S", 0.05)
    fake_xrt.registers, fake_xrt.stoppable = registers, False
    with open_fake(timeout_s=0.5) as device:
        fake_xrt.hanging = (0,)
        with pytest.raises(faults.DeviceTimeoutError):
            device.run(samples(1))
        # The next one already waits while the card is still given time.
        assert np.array_equal(device.run(samples(4))[0], expected(samples(4)))
        assert fake_xrt.events.count("open") == 2


def wait_for(fake_xrt: Any, event: str, count: int) -> None:
    deadline = time.monotonic() + 30
    while fake_xrt.events.count(event) < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_lost_card_is_opened_afresh(open_fake, fake_xrt, samples, expected) -> None:
    with open_fake() as device:
        fake_xrt.hanging = (0,)
        futures = [device.submit(samples(2)) for _ in range(3)]
        wait_for(fake_xrt, "start", 4)
        fake_xrt.faults["done"] = faults.DeviceLostError("it fell off the bus")
        fake_xrt.hanging = ()
        for future in futures[:2]:
            with pytest.raises(faults.DeviceLostError, match="fell off the bus"):
                future.result(30)
        # The third one had not begun.
        assert np.array_equal(futures[2].result(30)[0], expected(samples(2)))
        assert np.array_equal(device.run(samples(4))[0], expected(samples(4)))
        assert fake_xrt.events.count("open") == 2


@pytest.mark.parametrize("registers", [False, True])
def test_other_cards_go_on_when_one_is_given_up(
    open_fake, fake_xrt, samples, expected, monkeypatch, registers: bool
) -> None:
    monkeypatch.setattr("trencadis_host.devices.xrt.device.GRACE_S", 2.0)
    fake_xrt.platforms *= 2
    fake_xrt.registers, fake_xrt.stoppable = registers, False
    with open_fake(numbers=(0, 1), timeout_s=0.5) as device:
        fake_xrt.hanging = (0,)
        # One sample goes to one compute unit: the first card's first, and so on.
        futures = [device.submit(samples(1, seed)) for seed in range(4)]
        with pytest.raises(faults.DeviceTimeoutError):
            futures[0].result(30)
        for seed in (2, 3):
            assert np.array_equal(futures[seed].result(30)[0], expected(samples(1, seed)))
        started = time.monotonic()
        if registers:
            # While the first card is still given time.
            assert np.array_equal(device.run(samples(1))[0], expected(samples(1)))
            assert time.monotonic() - started < 1.5
        wait_for(fake_xrt, "card closed", 1)
        assert np.array_equal(device.run(samples(8))[0], expected(samples(8)))
        assert fake_xrt.events.count("open") == 3


@pytest.mark.parametrize("event", ["set_scalar", "to_card", "start", "set_buffer", "buffer"])
@pytest.mark.parametrize("error", [faults.DeviceLostError, RuntimeError, TypeError])
def test_a_card_lost_at_the_start_of_a_run_is_opened_afresh(
    open_fake, fake_xrt, samples, expected, event: str, error: type[Exception]
) -> None:
    with open_fake() as device:
        fake_xrt.faults[event] = error("it is not there")
        with pytest.raises(DeviceError, match="it is not there"):
            device.submit(samples(2)).result(30)
        assert np.array_equal(device.run(samples(4))[0], expected(samples(4)))
        assert fake_xrt.events.count("open") == 2
    assert fake_xrt.memory == [1 << 24, 1 << 24]
    assert not fake_xrt.opened


def test_a_card_that_cannot_be_opened_again(open_fake, fake_xrt, samples, expected) -> None:
    with open_fake() as device:
        fake_xrt.faults["start"] = faults.DeviceLostError("it fell off the bus")
        fake_xrt.faults["load"] = faults.WrongBitstreamError("it does not take it")
        with pytest.raises(faults.DeviceLostError):
            device.run(samples(1))
        with pytest.raises(faults.WrongBitstreamError):
            device.run(samples(1))
        assert np.array_equal(device.run(samples(4))[0], expected(samples(4)))


@pytest.mark.parametrize(
    "event", ["open", "load", "group", "buffer", "to_card", "run", "set_buffer", "set_scalar"]
)
def test_nothing_stays_open_if_opening_fails(open_fake, fake_xrt, event: str) -> None:
    fake_xrt.faults[event] = faults.DeviceLostError("not now")
    with pytest.raises(faults.DeviceLostError, match="not now"):
        open_fake()
    assert fake_xrt.memory == [1 << 24, 1 << 24]
    assert not fake_xrt.opened
    open_fake().close()


@pytest.mark.parametrize("event", ["run closed", "buffer closed", "unit closed", "card closed"])
def test_the_rest_is_closed_if_closing_something_fails(open_fake, fake_xrt, event: str) -> None:
    device = open_fake()
    fake_xrt.faults[event] = faults.DeviceLostError("too late")
    device.close()
    assert not fake_xrt.faults
    assert fake_xrt.memory == [1 << 24, 1 << 24]
    assert not fake_xrt.opened
    assert fake_xrt.events.count("card closed") == 1


def test_a_call_that_does_not_come_back(open_fake, fake_xrt, samples, monkeypatch) -> None:
    monkeypatch.setattr("trencadis_host.devices.xrt.device.STUCK_S", 0.3)
    device = open_fake()
    fake_xrt.passable.clear()
    futures = [device.submit(samples(2)) for _ in range(4)]
    for future in futures:
        with pytest.raises(faults.DeviceLostError, match=r"did not come back in 0\.3 s"):
            future.result(30)
    with pytest.raises(faults.DeviceLostError, match="did not come back"):
        device.run(samples(1))
    started = time.monotonic()
    device.close()
    assert time.monotonic() - started < 1
    fake_xrt.passable.set()
    wait_for(fake_xrt, "card closed", 1)


def test_closing_while_a_call_does_not_come_back(open_fake, fake_xrt, samples, monkeypatch) -> None:
    monkeypatch.setattr("trencadis_host.devices.xrt.device.CLOSE_S", 0.1)
    device = open_fake()
    fake_xrt.passable.clear()
    future = device.submit(samples(2))
    device.close()
    with pytest.raises(faults.DeviceAbortedError, match="is closed"):
        future.result(30)
    fake_xrt.passable.set()
    wait_for(fake_xrt, "card closed", 1)


def test_opening_that_does_not_come_back(open_fake, fake_xrt, monkeypatch) -> None:
    monkeypatch.setattr("trencadis_host.devices.xrt.device.STUCK_S", 0.3)
    monkeypatch.setattr(fake_xrt, "open", lambda number: fake_xrt.passable.wait())
    fake_xrt.passable.clear()
    with pytest.raises(faults.DeviceLostError, match="did not come back"):
        open_fake()
    fake_xrt.passable.set()


def test_a_callback_that_takes_long_is_no_lost_card(
    open_fake, fake_xrt, samples, expected, monkeypatch
) -> None:
    monkeypatch.setattr("trencadis_host.devices.xrt.device.STUCK_S", 0.5)
    with open_fake() as device:
        device.submit(samples(1)).add_done_callback(lambda future: time.sleep(1.2))
        assert np.array_equal(device.run(samples(4))[0], expected(samples(4)))


def test_a_run_behind_one_that_did_not_load_the_image_loads_it(
    open_fake, fake_xrt, samples, expected
) -> None:
    with open_fake() as device:
        fake_xrt.statuses = [Status.BAD_IMAGE] * 2
        fake_xrt.hanging = (0,)
        futures = [device.submit(samples(2, seed)) for seed in range(2)]
        wait_for(fake_xrt, "start", 4)
        fake_xrt.hanging = ()
        with pytest.raises(faults.WrongImageError):
            futures[0].result(30)
        assert np.array_equal(futures[1].result(30)[0], expected(samples(2, 1)))


def test_a_report_of_another_version(open_fake, fake_xrt, samples, expected) -> None:
    with open_fake() as device:
        fake_xrt.version = ABI_VERSION + 1
        with pytest.raises(faults.WrongBitstreamError, match="with this release"):
            device.run(samples(1))
        fake_xrt.version = 0
        with pytest.raises(faults.DeviceLostError, match="without a report"):
            device.run(samples(1))
        fake_xrt.version = ABI_VERSION
        assert np.array_equal(device.run(samples(4))[0], expected(samples(4)))


def test_a_batch_while_a_card_is_lost_is_spread_over_all(
    open_fake, fake_xrt, samples, expected
) -> None:
    with open_fake() as device:
        fake_xrt.faults["start"] = faults.DeviceLostError("it fell off the bus")
        with pytest.raises(faults.DeviceLostError):
            device.run(samples(1))
        wait_for(fake_xrt, "card closed", 1)
        assert device.units == 2
        del fake_xrt.events[:]
        assert np.array_equal(device.run(samples(4))[0], expected(samples(4)))
        assert fake_xrt.events.count("start") == 2


def test_pieces_are_alike_on_all_compute_units(open_fake, fake_xrt, samples, monkeypatch) -> None:
    monkeypatch.setattr("trencadis_host.devices.xrt.device.PIECE_BYTES", 4 * 16)
    with open_fake() as device:
        device.run(samples(11))
        assert fake_xrt.events.count("start") == 4
        del fake_xrt.events[:]
        device.run(samples(1))
        assert fake_xrt.events.count("start") == 1


def test_the_bitstream_is_not_kept(open_fake) -> None:
    with open_fake() as device:
        assert [card._xclbin.sections for card in device._cards] == [{}]


def test_too_little_memory_fails_one_batch(open_fake, fake_xrt, samples, expected) -> None:
    with open_fake() as device:
        device.run(samples(2))
        left, fake_xrt.memory[:] = list(fake_xrt.memory), [0, 0]
        with pytest.raises(faults.DeviceMemoryError):
            device.run(samples(4096))
        fake_xrt.memory = left
        assert np.array_equal(device.run(samples(4))[0], expected(samples(4)))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (Status.BAD_IMAGE, faults.WrongImageError),
        (Status.ABORTED, faults.DeviceAbortedError),
        (Status.READ_ERROR, DeviceError),
        (Status.OVERFLOW, DeviceError),
    ],
)
def test_the_kernels_status_is_an_exception(
    open_fake, fake_xrt, samples, expected, status: Status, error: type[DeviceError]
) -> None:
    with open_fake() as device:
        fake_xrt.statuses = [status] * 2
        with pytest.raises(error):
            device.run(samples(2))
        assert np.array_equal(device.run(samples(4))[0], expected(samples(4)))


def test_a_card_in_use_is_refused(open_fake, fake_xrt) -> None:
    with open_fake(), pytest.raises(faults.DeviceBusyError):
        open_fake()
    with open_fake():
        pass


def test_a_missing_card_is_named(open_fake) -> None:
    with pytest.raises(faults.DeviceNotFoundError, match="no card 3"):
        open_fake(numbers=(0, 3))


def test_another_platforms_xclbin_is_refused(open_fake, fake_xrt) -> None:
    fake_xrt.platforms = ["maker_other_shell_1"]
    with pytest.raises(faults.WrongBitstreamError, match="is for platform maker_board_shell_1"):
        open_fake()


def test_an_xclbin_of_another_configuration_is_refused(
    fake_xrt, xclbin: Path, overlay: Overlay
) -> None:
    data = xclbin.read_bytes()
    noted = f"{overlay.kernel.digest:016x}".encode()
    xclbin.write_bytes(data.replace(noted, b"0" * 16))
    with pytest.raises(faults.WrongImageError, match="compile the model for that board"):
        XrtDevice("xrt:fake", fake_xrt, (0,), xclbin, overlay, 1)


def test_an_xclbin_of_another_version_is_refused(fake_xrt, xclbin: Path, overlay: Overlay) -> None:
    noted = f'"abi": {ABI_VERSION}'.encode()
    data = xclbin.read_bytes()
    assert noted in data
    xclbin.write_bytes(data.replace(noted, b'"abi": 9'))
    with pytest.raises(faults.WrongBitstreamError, match=r"version 9 .*with this release"):
        XrtDevice("xrt:fake", fake_xrt, (0,), xclbin, overlay, 1)


def test_an_xclbin_without_our_kernel_is_refused(fake_xrt, xclbin: Path, overlay: Overlay) -> None:
    xclbin.write_bytes(xclbin.read_bytes().replace(b"trencadis:trencadis", b"something:something"))
    with pytest.raises(faults.WrongBitstreamError, match=r"it has: something"):
        XrtDevice("xrt:fake", fake_xrt, (0,), xclbin, overlay, 1)


def test_closing_gives_up_what_is_under_way(open_fake, fake_xrt, samples) -> None:
    device = open_fake()
    fake_xrt.hanging = (0,)
    futures = [device.submit(samples(2)) for _ in range(8)]
    device.close()
    for future in futures:
        with pytest.raises(faults.DeviceAbortedError):
            future.result(30)
    with pytest.raises(faults.DeviceAbortedError, match="is closed"):
        device.run(samples(1))
    device.close()


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupted_run_is_dropped(open_fake, fake_xrt, samples, expected, monkeypatch) -> None:
    monkeypatch.setattr("trencadis_host.devices.xrt.device.PIECE_BYTES", 16)
    with open_fake() as device:
        fake_xrt.hanging = (0,)
        main = threading.main_thread().ident
        assert main is not None

        def interrupt() -> None:
            while "start" not in fake_xrt.events:
                time.sleep(0.001)
            signal.pthread_kill(main, signal.SIGINT)

        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            device.run(samples(1000))
        fake_xrt.hanging = ()
        assert np.array_equal(device.run(samples(4))[0], expected(samples(4)))
    # The two runs that each compute unit had already, and the last four samples.
    assert fake_xrt.events.count("start") == 4 + 4


def test_cycles_of_compute_units_that_work_together() -> None:
    record = dict.fromkeys((field.name for field in STATISTICS.fields), 0)
    one = record | {"samples": 5, "cycles": 100, "busy": 7, "first_done": 10, "last_done": 50}
    two = record | {"samples": 3, "cycles": 60, "busy": 9, "first_done": 10, "last_done": 30}
    statistics = merge([(0, one), (1, two), (1, two)])
    assert statistics.samples == 11
    assert statistics.cycles == 120
    assert statistics.busy_cycles == 18
    # 8 gaps of 10 cycles, on two units at the same time.
    assert statistics.output_interval == 5
    assert merge([(0, record | {"samples": 1})]).output_interval is None


@pytest.mark.parametrize(
    ("text", "numbers"), [("", [0]), ("2", [2]), ("0,1", [0, 1]), ("all", None)]
)
def test_numbers_of_cards(text: str, numbers: list[int] | None) -> None:
    assert parse_numbers(text) == numbers


@pytest.mark.parametrize("text", ["x", "0,0", "1,", "-1", "0x1"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(faults.DeviceNameError, match="takes numbers of cards"):
        parse_numbers(text)


def test_a_missing_xclbin_is_named(overlay: Overlay, tmp_path: Path) -> None:
    with pytest.raises(faults.WrongBitstreamError, match="make bitstream"):
        open_device("0", overlay, DeviceOptions(xclbin_dir=tmp_path))


def test_bitstreams_are_looked_for_in_the_users_cache(
    overlay: Overlay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{overlay.kernel.digest:016x}.xclbin"
    here = tmp_path / "here" / "build" / "xclbin"
    here.mkdir(parents=True)
    (here / name).write_bytes(b"of a folder that was downloaded")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kept = tmp_path / "cache" / "trencadis" / "xclbin"
    with pytest.raises(faults.WrongBitstreamError, match=f"{kept / name} is missing; build it"):
        open_device("0", overlay, DeviceOptions())
    assert not kept.exists()
    kept.mkdir(parents=True, mode=0o700)
    (kept / name).symlink_to(here / name)
    with pytest.raises(CacheError, match="is a link, of another kind or of another user"):
        open_device("0", overlay, DeviceOptions())
    kept.chmod(0o775)
    with pytest.raises(CacheError, match="is open to others"):
        open_device("0", overlay, DeviceOptions())
