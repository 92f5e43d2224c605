"""The serial device against a Verilated board at the end of a pseudo-terminal."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trencadis_bench.verify.verify import reference_outputs
from trencadis_boards import Ecp5Flow, load_board
from trencadis_compiler.compile import compile_model
from trencadis_format.registers import Register
from trencadis_host import Session
from trencadis_host import errors as faults
from trencadis_host.devices.protocol import DeviceError, DeviceOptions
from trencadis_host.devices.serial.device import SerialBoard, open_device
from trencadis_sim.verilated import serial_board
from trencadis_sim.verilated.serial_board import NoisyLine, SerialTerminal, SimulatedBoard

DIGITS = Path("examples/digits/digits.onnx")

pytestmark = pytest.mark.rtl

MEMORY_BYTES = 32768
RATE = 19200
"""What the host is told, so that it has patience: simulation is slower than a board."""


@pytest.fixture
def case(make_case: Callable[..., Any], specs: dict[str, Any]) -> Any:
    return make_case(specs["exact-winners"], "groups", samples=5)


@contextmanager
def device(
    case: Any, build_dir: Path, line: NoisyLine | None = None, **changes: Any
) -> Iterator[SerialBoard]:
    overlay = replace(case.overlay, **changes)
    board = SimulatedBoard(case.overlay.kernel, MEMORY_BYTES, build_dir)
    with SerialTerminal(board, line) as terminal:
        opened = open_device(f"{terminal.path}@{RATE}", overlay, DeviceOptions(timeout_s=60))
        with opened:
            yield opened


def test_equals_exact_arithmetic(case: Any, build_dir: Path) -> None:
    with device(case, build_dir) as board:
        assert board.link.memory_bytes == MEMORY_BYTES
        for samples in (5, 1):
            outputs, statistics = board.run(case.inputs[:samples])
            assert np.array_equal(outputs, case.expected[:samples])
            assert statistics.samples == samples
            assert statistics.cycles is not None


def test_board_as_it_is_delivered_runs_the_digits(build_dir: Path, tmp_path: Path) -> None:
    """The kernel and the memory of the board that a bitstream is built for, whole."""
    board = load_board("ulx3s")
    assert isinstance(board.flow, Ecp5Flow)
    compiled = compile_model(DIGITS, board)
    image = tmp_path / "digits.tcd"
    compiled.save(image)
    inputs = np.random.default_rng(5).integers(0, 256, (2, 1, 28, 28)).astype(np.float32)
    memory_bytes = 1024 * board.flow.link.memory_kib
    simulated = SimulatedBoard(compiled.overlay.kernel, memory_bytes, build_dir)
    with (
        SerialTerminal(simulated) as terminal,
        Session(image, f"serial:{terminal.path}@{RATE}", timeout_s=120) as session,
    ):
        (outputs,) = session.run(None, {compiled.overlay.input.name: inputs})
    assert np.array_equal(outputs, reference_outputs(DIGITS, compiled.overlay, inputs))


def test_samples_come_in_batches_if_memory_is_short(case: Any, build_dir: Path) -> None:
    with device(case, build_dir) as board:
        board._batch = 2
        outputs, statistics = board.run(case.inputs)
        assert np.array_equal(outputs, case.expected)
        assert statistics.samples == 5


def test_noise_on_the_line_changes_nothing(case: Any, build_dir: Path) -> None:
    line = NoisyLine(one_in=3000, seed=3)
    with device(case, build_dir, line) as board:
        outputs, _ = board.run(case.inputs)
        assert np.array_equal(outputs, case.expected)
        assert line.harmed
        assert board.link.statistics.repeats


def test_image_is_sent_once(case: Any, build_dir: Path) -> None:
    sent = []
    options = DeviceOptions(timeout_s=60, progress=sent.append)
    board = SimulatedBoard(case.overlay.kernel, MEMORY_BYTES, build_dir)
    with SerialTerminal(board) as terminal:
        for _ in range(2):
            with open_device(f"{terminal.path}@{RATE}", case.overlay, options) as opened:
                outputs, _ = opened.run(case.inputs[:1])
                assert np.array_equal(outputs, case.expected[:1])
    assert sent == ["sending the image"]


def test_the_run_after_an_interrupted_one_is_right(
    case: Any, build_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with device(case, build_dir) as board:
        board.run(case.inputs[:1])
        read = board.link.read_register

        def interrupted(register: int) -> int:
            if register == Register.INTERRUPT_STATUS:
                raise KeyboardInterrupt
            return read(register)

        with monkeypatch.context() as patch:
            patch.setattr(board.link, "read_register", interrupted)
            with pytest.raises(KeyboardInterrupt):
                board.run(case.inputs)
        outputs, statistics = board.run(case.inputs[3:])
        assert np.array_equal(outputs, case.expected[3:])
        assert statistics.load_cycles


def test_a_terminal_is_closed_once(case: Any, build_dir: Path) -> None:
    terminal = SerialTerminal(SimulatedBoard(case.overlay.kernel, MEMORY_BYTES, build_dir))
    terminal.close()
    # Its numbers may belong to other files by now.
    others = [os.open("/dev/null", os.O_RDONLY) for _ in range(2)]
    terminal.close()
    for other in others:
        os.close(other)


def test_the_rate_of_the_simulated_line_is_part_of_its_name(
    case: Any, build_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = []

    class Stop(Exception): ...

    def build_library(identity: Any, *arguments: Any, **options: Any) -> None:
        known.append(identity)
        raise Stop

    monkeypatch.setattr(serial_board, "build_library", build_library)
    for divisor in (4, 8):
        monkeypatch.setattr(serial_board, "SIMULATED_DIVISOR", divisor)
        with pytest.raises(Stop):
            SimulatedBoard(case.overlay.kernel, MEMORY_BYTES, build_dir)
    assert known[0] != known[1]


def test_image_for_another_kernel_is_refused(case: Any, build_dir: Path) -> None:
    other = replace(case.overlay.kernel, input_beats=case.overlay.kernel.input_beats + 1)
    with (
        pytest.raises(
            faults.WrongImageError, match=r"the image is for .*; compile the model for this board"
        ),
        device(case, build_dir, kernel=other),
    ):
        pass


def test_what_does_not_fit_the_memory_is_refused(case: Any, build_dir: Path) -> None:
    with (
        pytest.raises(DeviceError, match=rf"bytes, the board has {MEMORY_BYTES}; choose a smaller"),
        device(case, build_dir, image=case.overlay.image + bytes(MEMORY_BYTES)),
    ):
        pass
