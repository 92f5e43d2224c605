"""The real XRT over simulated RTL, and what can go wrong with it."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trencadis_boards import Board
from trencadis_boards.board import Bank
from trencadis_format.image import ABI_VERSION, HEADER, pack_blocks, unpack_blocks
from trencadis_format.overlay import Overlay
from trencadis_host import errors as faults
from trencadis_host.devices.protocol import DeviceError
from trencadis_sim.hw_emu.device import EmulatedCard, parse_shape
from trencadis_sim.hw_emu.environment import write_environment
from trencadis_sim.hw_emu.soak import soak
from trencadis_sim.hw_emu.xclbin import write_emulation

pytestmark = [pytest.mark.rtl, pytest.mark.usefixtures("xrt_library")]

NEVER = 4_000_000_000
"""Cycles until memory answers, in a kernel that is to hang."""


def emulation(
    folder: Path, overlay: Overlay, build_dir: Path, *, memory_mib: int = 64, **options: Any
) -> Path:
    board = Board(
        name="test",
        title="test",
        clock_mhz=100,
        compute_units=1,
        kernel=overlay.kernel,
        banks=(Bank(name="DDR[0]", size_mib=memory_mib, bits=64, bytes_per_s=1e9),),
    )
    return write_emulation(
        folder, overlay.kernel, board, units=1, cards=1, build_dir=build_dir, **options
    )


@pytest.fixture(scope="module")
def opener(
    tmp_path_factory: pytest.TempPathFactory, overlay: Overlay, build_dir: Path
) -> Callable[..., EmulatedCard]:
    path = emulation(tmp_path_factory.mktemp("emulation"), overlay, build_dir)

    def open_card(timeout_s: float = 60, path: Path = path) -> EmulatedCard:
        return EmulatedCard(overlay, path, cards=1, timeout_s=timeout_s)

    return open_card


@pytest.fixture
def card(opener) -> Iterator[EmulatedCard]:
    with opener() as opened:
        yield opened


def ended(pid: int) -> bool:
    """Tell whether a process is gone, or only waits for its parent to notice."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def slow(card: EmulatedCard, samples: Callable[..., Any]) -> Any:
    """A batch that takes long enough to be disturbed."""
    return card.submit(samples(20_000))


def test_closing_leaves_nothing_behind(opener, samples, expected) -> None:
    card = opener()
    folder = card._xclbin.parent
    process, simulators = card.process, card.simulators
    assert process is not None
    assert len(simulators) == 1
    assert np.array_equal(card.run(samples(5))[0], expected(samples(5)))
    assert list(folder.glob("run-*"))
    card.close()
    assert all(ended(pid) for pid in (process, *simulators))
    assert not list(folder.glob("run-*"))
    with pytest.raises(faults.DeviceAbortedError, match="is closed"):
        card.run(samples(1))
    card.close()


def test_a_killed_simulator_is_a_lost_device(card, samples, expected) -> None:
    future = slow(card, samples)
    time.sleep(0.2)
    process = card.process
    os.kill(card.simulators[0], signal.SIGKILL)
    with pytest.raises(faults.DeviceLostError, match="its simulator is gone"):
        future.result(20)
    wait_until(lambda: ended(process))
    assert np.array_equal(card.run(samples(5))[0], expected(samples(5)))


def test_a_killed_process_is_a_lost_device(card, samples, expected) -> None:
    futures = [slow(card, samples), card.submit(samples(3))]
    simulators = card.simulators
    os.kill(card.process, signal.SIGKILL)
    for future in futures:
        with pytest.raises(faults.DeviceLostError, match="process with XRT in it is gone"):
            future.result(20)
    wait_until(lambda: ended(simulators[0]))
    assert np.array_equal(card.run(samples(5))[0], expected(samples(5)))


def test_a_simulator_killed_while_idle_is_noticed(card, samples, expected) -> None:
    old = card.process
    os.kill(card.simulators[0], signal.SIGKILL)
    wait_until(lambda: card.process is None)
    assert np.array_equal(card.run(samples(5))[0], expected(samples(5)))
    assert card.process != old


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_in_the_middle_of_a_run(card, samples, expected) -> None:
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT))
    process, simulators = card.process, card.simulators
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        card.run(samples(50_000))
    assert ended(process)
    wait_until(lambda: ended(simulators[0]))
    assert np.array_equal(card.run(samples(5))[0], expected(samples(5)))


def test_a_core_that_never_finishes(
    opener, overlay: Overlay, build_dir: Path, tmp_path: Path, samples
) -> None:
    path = emulation(tmp_path, overlay, build_dir, latency_cycles=NEVER)
    with opener(timeout_s=0.5, path=path) as card:
        process = card.process
        started = time.monotonic()
        for _ in range(2):
            with pytest.raises(faults.DeviceTimeoutError, match=r"no result after 0\.5 s"):
                card.run(samples(1))
        assert time.monotonic() - started < 60
        wait_until(lambda: ended(process))


def test_a_run_that_is_too_long_is_aborted_and_the_next_one_works(
    opener, samples, expected
) -> None:
    with opener(timeout_s=0.3) as card:
        card.run(samples(1))
        with pytest.raises(faults.DeviceTimeoutError, match=r"no result after 0\.3 s"):
            card.run(samples(60_000))
        assert np.array_equal(card.run(samples(5))[0], expected(samples(5)))


def test_memory_that_is_too_small(
    opener, overlay: Overlay, build_dir: Path, tmp_path: Path, samples, expected
) -> None:
    path = emulation(tmp_path, overlay, build_dir, memory_mib=1)
    with opener(path=path) as card:
        with pytest.raises(faults.DeviceMemoryError, match="memory group 0"):
            card.run(samples(60_000))
        assert np.array_equal(card.run(samples(5))[0], expected(samples(5)))


def test_an_xclbin_of_another_platform(
    opener, overlay: Overlay, build_dir: Path, tmp_path: Path
) -> None:
    path = emulation(tmp_path, overlay, build_dir)
    configuration = tmp_path / "emconfig.json"
    text = configuration.read_text()
    configuration.write_text(text.replace("trencadis_test_emulation", "maker_board_shell_1"))
    with pytest.raises(faults.WrongBitstreamError, match="card 0 is a maker_board_shell_1"):
        opener(path=path)
    assert not list(tmp_path.glob("run-*"))


def test_a_damaged_xclbin(opener, overlay: Overlay, build_dir: Path, tmp_path: Path) -> None:
    path = emulation(tmp_path, overlay, build_dir)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(faults.WrongBitstreamError, match="not a usable xclbin"):
        opener(path=path)


def test_an_image_for_another_configuration(
    overlay: Overlay, build_dir: Path, tmp_path: Path
) -> None:
    path = emulation(tmp_path, overlay, build_dir)
    kernel = replace(overlay.kernel, input_beats=9)
    blocks = list(unpack_blocks(overlay.image))
    header = HEADER.pack(version=ABI_VERSION, configuration=kernel.digest)
    blocks[0] = replace(blocks[0], rows=[header])
    other = replace(overlay, kernel=kernel, image=pack_blocks(blocks))
    with pytest.raises(faults.WrongImageError, match="compile the model for that board"):
        EmulatedCard(other, path, cards=1, timeout_s=10)


def test_a_simulator_that_ends_at_once(
    opener, overlay: Overlay, build_dir: Path, tmp_path: Path, monkeypatch
) -> None:
    path = emulation(tmp_path, overlay, build_dir)
    monkeypatch.setenv("TRENCADIS_PYTHON", "/nonexistent/python")
    started = time.monotonic()
    with pytest.raises(faults.DeviceLostError, match=r"its simulator ended at once.*not found"):
        opener(path=path)
    assert time.monotonic() - started < 60
    assert not list(tmp_path.glob("run-*"))


def test_a_process_that_cannot_be_started_leaves_nothing(
    opener, overlay: Overlay, build_dir: Path, tmp_path: Path, monkeypatch
) -> None:
    path = emulation(tmp_path, overlay, build_dir)

    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr("trencadis_sim.hw_emu.device.subprocess.Popen", fail)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="no more processes"):
        opener(path=path)
    assert len(os.listdir("/proc/self/fd")) == before
    assert not list(tmp_path.glob("run-*"))


def test_a_process_that_stands_still_is_given_up(card, samples, expected, monkeypatch) -> None:
    card.run(samples(1))
    process = card.process
    os.kill(process, signal.SIGSTOP)
    monkeypatch.setattr("trencadis_sim.hw_emu.device.SILENCE_S", 3)
    started = time.monotonic()
    # More than its socket takes while nobody reads there.
    futures = [card.submit(samples(100_000)), card.submit(samples(3))]
    assert time.monotonic() - started < 2
    for future in futures:
        with pytest.raises(faults.DeviceTimeoutError, match="no sign of life for 3 s"):
            future.result(30)
    wait_until(lambda: ended(process))
    assert np.array_equal(card.run(samples(5))[0], expected(samples(5)))


def test_a_long_batch_that_goes_on_is_not_given_up(opener, samples, expected, monkeypatch) -> None:
    monkeypatch.setattr("trencadis_sim.hw_emu.device.SILENCE_S", 3)
    with opener(timeout_s=60) as card:
        process = card.process
        started = time.monotonic()
        packed = samples(60_000)
        while time.monotonic() - started < 6:
            assert np.array_equal(card.run(packed)[0], expected(packed))
        assert card.process == process


def test_a_missing_xrt(tmp_path: Path) -> None:
    with pytest.raises(faults.XrtMissingError, match="apt install libxrt1"):
        write_environment(tmp_path / "emulation", "board", [], libraries=[tmp_path])


def test_a_missing_unzip(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(faults.XrtMissingError, match="apt install unzip"):
        write_environment(tmp_path / "emulation", "board", [])


def test_a_cancelled_batch_is_not_computed(card, samples, expected) -> None:
    started = time.monotonic()
    # The smaller ones wait in the other set of buffers, the large one after them.
    futures = [slow(card, samples), card.submit(samples(1)), card.submit(samples(400_000))]
    last = card.submit(samples(3))
    assert futures[2].cancel()
    futures[0].result(60)
    taken = time.monotonic() - started
    assert np.array_equal(last.result(60)[0], expected(samples(3)))
    assert time.monotonic() - started < 4 * taken


def test_two_processes_have_cards_of_their_own(opener, samples, expected) -> None:
    with opener() as one, opener() as two:
        futures = [card.submit(samples(20, seed)) for seed in range(3) for card in (one, two)]
        for number, future in enumerate(futures):
            assert np.array_equal(future.result(60)[0], expected(samples(20, number // 2)))


@pytest.mark.parametrize(
    ("text", "shape"), [("", (1, 1)), ("2", (2, 1)), ("1x3", (1, 3)), ("2x2", (2, 2))]
)
def test_shapes(text: str, shape: tuple[int, int]) -> None:
    assert parse_shape(text) == shape


@pytest.mark.parametrize("text", ["x", "0", "1x0", "1x99", "-1", "1x2x3", "a"])
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(DeviceError, match="cards x compute units"):
        parse_shape(text)


def test_many_runs_lose_no_memory(card, overlay: Overlay) -> None:
    figures = soak(card, overlay, runs=300, samples=4)
    assert figures["wrong"] == 0
    assert figures["descriptors_after"] == figures["descriptors_before"]
    assert set(figures["descriptors_after"]) == {"program", "xrt", "simulator"}
    for name, before in figures["kib_before"].items():
        assert figures["kib_after"][name] - before < 2048, name
