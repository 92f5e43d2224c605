import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from trencadis_host import faults
from trencadis_host.device import DeviceError, DeviceOptions
from trencadis_host.xrt import XrtDevice, merge, open_device, parse_numbers
from trencadis_hw import abi
from trencadis_hw.container import Overlay

Words = npt.NDArray[np.uint8]


@pytest.fixture
def open_fake(fake_xrt: Any, xclbin: Path, overlay: Overlay) -> Callable[..., XrtDevice]:
    def make(*, numbers: tuple[int, ...] = (0,), timeout_s: float = 30.0) -> XrtDevice:
        return XrtDevice("xrt:fake", fake_xrt, numbers, xclbin, overlay, timeout_s)

    return make


@pytest.mark.parametrize("count", [1, 2, 3, 64])
def test_results_are_those_of_the_emulator(open_fake, words, expected, count: int) -> None:
    with open_fake() as device:
        for seed in range(3):
            packed = words(count, seed)
            results, statistics = device.run(packed)
            assert np.array_equal(results, expected(packed))
            assert statistics.words == count


def test_a_batch_is_spread_over_all_compute_units_of_all_cards(
    open_fake, fake_xrt, words, expected
) -> None:
    fake_xrt.platforms *= 2
    with open_fake(numbers=(0, 1)) as device:
        assert device.units == 4
        packed = words(10)
        results, statistics = device.run(packed)
        assert np.array_equal(results, expected(packed))
        # Four pieces of 2 or 3 words, each of which also loads the image.
        assert statistics.cycles == 100 + 3 * 10
        assert statistics.load_cycles == 50
        assert fake_xrt.events.count("done") == 4


def test_words_travel_while_others_are_computed(
    open_fake, fake_xrt, words, expected, monkeypatch
) -> None:
    monkeypatch.setattr("trencadis_host.xrt.PIECE_BYTES", 4 * 16)
    fake_xrt.polls = 50
    with open_fake() as device:
        packed = words(32)
        assert np.array_equal(device.run(packed)[0], expected(packed))
    starts = [i for i, event in enumerate(fake_xrt.events) if event == "start"]
    ends = [i for i, event in enumerate(fake_xrt.events) if event == "done"]
    assert len(starts) == len(ends) == 8
    # Both compute units get two runs before the first ones are over, and then more for these.
    assert [sum(start < end for start in starts) for end in ends[:-4]] == [4, 4, 6, 6]


def test_buffers_are_kept(open_fake, fake_xrt, words) -> None:
    with open_fake() as device:
        device.run(words(64))
        device.run(words(64))
        allocated = fake_xrt.allocations
        for seed in range(20):
            device.run(words(1 + seed, seed))
        assert fake_xrt.allocations == allocated
    assert fake_xrt.memory == [1 << 24, 1 << 24]
    assert not fake_xrt.opened


def test_buffers_grow_by_doubling(open_fake, fake_xrt, words) -> None:
    with open_fake() as device:
        for count in range(1, 65):
            device.run(words(count))
        # Image and statistics of two compute units; inputs and outputs of 1 to 32 words.
        assert fake_xrt.allocations <= 2 * (1 + 2) + 2 * 2 * 2 * 6


def test_submitted_batches_end_in_order(open_fake, words, expected) -> None:
    with open_fake() as device:
        batches = [words(count, count) for count in (5, 1, 8, 3)]
        futures = [device.submit(packed) for packed in batches]
        for packed, future in zip(batches, futures, strict=True):
            assert np.array_equal(future.result(30)[0], expected(packed))


def test_a_run_that_takes_too_long_is_aborted(open_fake, fake_xrt, words, expected) -> None:
    with open_fake(timeout_s=0.05) as device:
        fake_xrt.hanging = 1
        with pytest.raises(faults.DeviceTimeoutError, match=r"no result after 0\.05 s"):
            device.run(words(1))
        assert "abort" in fake_xrt.events
        assert np.array_equal(device.run(words(4))[0], expected(words(4)))
        assert fake_xrt.events.count("open") == 1


@pytest.mark.parametrize("registers", [False, True])
def test_a_card_whose_kernel_never_ends_is_opened_afresh(
    open_fake, fake_xrt, words, expected, monkeypatch, registers: bool
) -> None:
    monkeypatch.setattr("trencadis_host.xrt.GRACE_S", 0.05)
    fake_xrt.registers, fake_xrt.stoppable = registers, False
    with open_fake(timeout_s=0.05) as device:
        fake_xrt.hanging = 1
        with pytest.raises(faults.DeviceTimeoutError):
            device.run(words(1))
        # The next one already waits while the card is still given time.
        assert np.array_equal(device.run(words(4))[0], expected(words(4)))
        assert fake_xrt.events.count("open") == 2


def test_a_lost_card_is_opened_afresh(open_fake, fake_xrt, words, expected) -> None:
    with open_fake() as device:
        fake_xrt.error = faults.DeviceLostError("it fell off the bus")
        futures = [device.submit(words(2)) for _ in range(3)]
        for future in futures[:2]:
            with pytest.raises(faults.DeviceLostError, match="fell off the bus"):
                future.result(30)
        # The third one had not begun.
        assert np.array_equal(futures[2].result(30)[0], expected(words(2)))
        assert np.array_equal(device.run(words(4))[0], expected(words(4)))


def test_too_little_memory_fails_one_batch(open_fake, fake_xrt, words, expected) -> None:
    with open_fake() as device:
        device.run(words(2))
        left, fake_xrt.memory[:] = list(fake_xrt.memory), [0, 0]
        with pytest.raises(faults.DeviceMemoryError):
            device.run(words(4096))
        fake_xrt.memory = left
        assert np.array_equal(device.run(words(4))[0], expected(words(4)))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (abi.Status.BAD_IMAGE, faults.WrongImageError),
        (abi.Status.ABORTED, faults.DeviceAbortedError),
        (abi.Status.READ_ERROR, DeviceError),
        (abi.Status.OVERFLOW, DeviceError),
    ],
)
def test_the_kernels_status_is_an_exception(
    open_fake, fake_xrt, words, expected, status: abi.Status, error: type[DeviceError]
) -> None:
    with open_fake() as device:
        fake_xrt.status = status
        with pytest.raises(error):
            device.run(words(2))
        fake_xrt.status = abi.Status(0)
        assert np.array_equal(device.run(words(4))[0], expected(words(4)))


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


def test_an_xclbin_without_our_kernel_is_refused(fake_xrt, xclbin: Path, overlay: Overlay) -> None:
    xclbin.write_bytes(xclbin.read_bytes().replace(b"trencadis:trencadis", b"something:something"))
    with pytest.raises(faults.WrongBitstreamError, match=r"it has: something"):
        XrtDevice("xrt:fake", fake_xrt, (0,), xclbin, overlay, 1)


def test_closing_gives_up_what_is_under_way(open_fake, fake_xrt, words) -> None:
    device = open_fake()
    fake_xrt.hanging = 1
    futures = [device.submit(words(2)) for _ in range(8)]
    device.close()
    for future in futures:
        with pytest.raises(faults.DeviceAbortedError):
            future.result(30)
    with pytest.raises(faults.DeviceAbortedError, match="is closed"):
        device.run(words(1))
    device.close()


def test_an_interrupted_run_is_dropped(open_fake, fake_xrt, words, expected, monkeypatch) -> None:
    monkeypatch.setattr("trencadis_host.xrt.PIECE_BYTES", 16)
    with open_fake() as device:
        fake_xrt.hanging = 1
        main = threading.main_thread().ident
        assert main is not None

        def interrupt() -> None:
            while "start" not in fake_xrt.events:
                time.sleep(0.001)
            signal.pthread_kill(main, signal.SIGINT)

        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            device.run(words(1000))
        fake_xrt.hanging = 0
        assert np.array_equal(device.run(words(4))[0], expected(words(4)))
    # The two runs that each compute unit had already, and the last four words.
    assert fake_xrt.events.count("start") == 4 + 4


def test_cycles_of_compute_units_that_work_together() -> None:
    record = dict.fromkeys((field.name for field in abi.STATISTICS.fields), 0)
    one = record | {"words": 5, "cycles": 100, "busy": 7, "first_done": 10, "last_done": 50}
    two = record | {"words": 3, "cycles": 60, "busy": 9, "first_done": 10, "last_done": 30}
    statistics = merge([(0, one), (1, two), (1, two)])
    assert statistics.words == 11
    assert statistics.cycles == 120
    assert statistics.busy_cycles == 18
    # 8 gaps of 10 cycles, on two units at the same time.
    assert statistics.output_interval == 5
    assert merge([(0, record | {"words": 1})]).output_interval is None


@pytest.mark.parametrize(
    ("text", "numbers"), [("", [0]), ("2", [2]), ("0,1", [0, 1]), ("all", [0, 1])]
)
def test_numbers_of_cards(fake_xrt, text: str, numbers: list[int]) -> None:
    fake_xrt.platforms *= 2
    assert parse_numbers(text, fake_xrt) == numbers


@pytest.mark.parametrize("text", ["x", "0,0", "1,", "-1", "0x1"])
def test_what_is_no_number_is_refused(fake_xrt, text: str) -> None:
    with pytest.raises(DeviceError, match="takes numbers of cards"):
        parse_numbers(text, fake_xrt)


def test_a_missing_xclbin_is_named(overlay: Overlay, tmp_path: Path) -> None:
    with pytest.raises(faults.WrongBitstreamError, match="make bitstream"):
        open_device("0", overlay, DeviceOptions(xclbin_dir=tmp_path))
