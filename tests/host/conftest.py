import signal
import threading
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from trencadis_boards.load import read_board
from trencadis_compiler.compile import compile_model
from trencadis_host.door import RunState
from trencadis_host.faults import DeviceBusyError, DeviceMemoryError, DeviceNotFoundError
from trencadis_host.xclbin import Bank
from trencadis_host.xrt_unit import ARGUMENTS
from trencadis_hw import abi
from trencadis_hw.container import Overlay
from trencadis_sim.emulator import Emulator
from trencadis_sim.hw_emu.environment import DRIVER, XRT_FOLDERS
from trencadis_sim.xclbin import kernel_description, pack_xclbin

PLATFORM = "maker_board_shell_1"

BOARD = """
title = "the smallest kernel"
clock_mhz = 100
kernels = 1
[kernel]
cores = 1
bus_bits = 64
input_beats = 8
output_beats = 8
[kernel.core]
words = 1
[[kernel.core.engines]]
lanes = 2
tiles = 2
kernels = 4
dense_values = 64
weight_rows = 64
slot_rows = 8
queue_beats = 16
requantisers = 2
requantise_rows = 16
reorder_rows = 16
select_rows = 4
layers = 2
"""


@pytest.fixture(scope="session")
def image(
    tmp_path_factory: pytest.TempPathFactory, linear_model: Callable[..., onnx.ModelProto]
) -> Path:
    """A linear layer of 16 inputs and 4 outputs, compiled for the smallest kernel."""
    rng = np.random.default_rng(3)
    weights = rng.integers(-50, 50, (4, 16)).astype(np.int8)
    weights[rng.random(weights.shape) < 0.5] = 0
    folder = tmp_path_factory.mktemp("network")
    model = linear_model(weights, bias=np.array([3, -100, 50, 7], np.int32))
    onnx.save(model, folder / "smallest.onnx")
    board = read_board(BOARD, "smallest", "smallest.toml")
    compile_model(folder / "smallest.onnx", board).overlay.save(folder / "smallest.tcd")
    return folder / "smallest.tcd"


@pytest.fixture(scope="session")
def overlay(image: Path) -> Overlay:
    return Overlay.load(image)


@pytest.fixture(scope="session")
def words(overlay: Overlay) -> Callable[[int], npt.NDArray[np.uint8]]:
    """Packed random input words."""

    def make(count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
        packed = np.zeros((count, overlay.input_bytes), np.uint8)
        used = overlay.input.values
        packed[:, :used] = np.random.default_rng(seed).integers(0, 256, (count, used))
        return packed

    return make


@pytest.fixture(scope="session")
def expected(overlay: Overlay) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]:
    """What the emulator makes of words."""
    emulator = Emulator(overlay)
    return lambda packed: emulator.run(packed)[0]


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, even if the tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def build_dir() -> Path:
    """Where simulators are kept from one run of the tests to the next."""
    return Path("build/sim")


@pytest.fixture(scope="session")
def xrt_library() -> None:
    """Skips a test where XRT and its emulation driver are not installed."""
    if not any(any(folder.glob(DRIVER)) for folder in XRT_FOLDERS):
        pytest.skip("XRT's emulation driver is not installed (Debian: apt install libxrt1 unzip)")


@pytest.fixture
def xclbin(overlay: Overlay, tmp_path: Path) -> Path:
    """An xclbin with two compute units; there is no simulator in it."""
    path = tmp_path / "two.xclbin"
    banks = [Bank("DDR[0]", 0, 1 << 20, True), Bank("DDR[1]", 1 << 20, 1 << 20, True)]
    path.write_bytes(
        pack_xclbin(
            kernel_description(overlay.kernel),
            b"no library",
            platform=PLATFORM,
            banks=banks,
            units=[0, 1],
            notes={"abi": abi.ABI_VERSION, "configuration": f"{overlay.kernel.digest:016x}"},
        )
    )
    return path


@dataclass
class FakeBuffer:
    """Memory of a fake card."""

    system: "FakeXrt"
    host: npt.NDArray[np.uint8]
    card: npt.NDArray[np.uint8]
    group: int
    open: bool = True

    def to_card(self, size: int) -> None:
        self.system.note("to_card")
        self.card[:size] = self.host[:size]

    def to_host(self, size: int) -> None:
        self.system.note("to_host")
        self.host[:size] = self.card[:size]

    def close(self) -> None:
        assert self.open
        self.open = False
        self.system.memory[self.group] += len(self.card)
        self.system.note("buffer closed")


@dataclass
class FakeRun:
    """A run of a fake card; computed by the emulator when it is its turn."""

    unit: "FakeUnit"
    arguments: dict[abi.Register, Any] = field(default_factory=dict)
    reached: RunState = RunState.DONE

    def set_buffer(self, argument: int, buffer: Any) -> None:
        self.unit.system.note("set_buffer")
        self.arguments[ARGUMENTS[argument]] = buffer

    def set_scalar(self, argument: int, value: int) -> None:
        self.unit.system.note("set_scalar")
        self.arguments[ARGUMENTS[argument]] = value

    def start(self) -> None:
        self.unit.system.note("start")
        self.reached = RunState.PENDING
        self.unit.queue.append(self)

    def state(self) -> RunState:
        self.unit.system.passable.wait()
        self.unit.work()
        return self.reached

    def close(self) -> None:
        self.unit.system.note("run closed")


@dataclass
class FakeUnit:
    """A compute unit of a fake card."""

    system: "FakeXrt"
    card: int
    number: int
    queue: list[FakeRun] = field(default_factory=list)
    loaded: bool = False
    polls: int = 0

    def group(self, argument: int) -> int:
        self.system.note("group")
        return self.number

    def buffer(self, size: int, group: int) -> FakeBuffer:
        self.system.note("buffer")
        if size > self.system.memory[group]:
            raise DeviceMemoryError(f"no {size} bytes")
        self.system.memory[group] -= size
        self.system.allocations += 1
        return FakeBuffer(self.system, np.zeros(size, np.uint8), np.zeros(size, np.uint8), group)

    def run(self) -> FakeRun:
        self.system.note("run")
        return FakeRun(self)

    def write_register(self, offset: int, value: int) -> bool:
        if not self.system.registers:
            return False
        assert (offset, value) == (abi.Register.ABORT, 1)
        self.system.note("abort")
        if self.system.stoppable:
            self.system.hanging = ()
            self.end(self.queue.pop(0), abi.Status.ABORTED)
        return True

    def close(self) -> None:
        self.system.opened.discard((self.card, self.number))
        self.system.note("unit closed")

    def work(self) -> None:
        """Compute the oldest run, after some polls."""
        self.polls += 1
        if not self.queue or self.polls % self.system.polls or self.system.hangs(self.card):
            return
        self.system.note("done")
        self.end(self.queue.pop(0), abi.Status(0))

    def end(self, run: FakeRun, status: abi.Status) -> None:
        arguments, overlay = run.arguments, self.system.overlay
        command = abi.Command(arguments[abi.Register.COMMAND])
        if command & abi.Command.LOAD:
            image = arguments[abi.Register.IMAGE].card[: len(overlay.image)].tobytes()
            self.loaded = image == overlay.image
            status |= abi.Status.BAD_IMAGE * (not self.loaded)
        if not self.loaded:
            status |= abi.Status.NO_IMAGE
        if self.system.statuses:
            status |= self.system.statuses.pop(0)
        if status & abi.Status.BAD_IMAGE:
            self.loaded = False
        count = arguments[abi.Register.WORDS]
        assert arguments[abi.Register.INPUT_BEATS] * overlay.kernel.bus_bytes == (
            count * overlay.input_bytes
        )
        if not status:
            taken = arguments[abi.Register.INPUT].card[: count * overlay.input_bytes]
            results, _ = Emulator(overlay).run(taken.reshape(count, -1))
            arguments[abi.Register.OUTPUT].card[: results.size] = results.reshape(-1)
        record = abi.STATISTICS.pack(
            version=self.system.version,
            status=status,
            cycles=100 + 10 * count,
            words=count,
            load_cycles=50 * bool(command & abi.Command.LOAD),
            first_done=60,
            last_done=60 + 10 * (count - 1),
            busy=count,
            reserved=0,
        )
        packed = np.frombuffer(record.to_bytes(abi.STATISTICS.bits // 8, "little"), np.uint8)
        arguments[abi.Register.STATISTICS].card[: packed.size] = packed
        run.reached = RunState.DONE


@dataclass
class FakeCard:
    """A fake card."""

    system: "FakeXrt"
    number: int
    platform: str

    def load(self, path: Path) -> None:
        self.system.note("load")

    def unit(self, name: str) -> FakeUnit:
        number = int(name.strip("}").rpartition("_")[2]) - 1
        key = (self.number, number)
        if key in self.system.opened:
            raise DeviceBusyError(f"{name} is used by another process")
        self.system.opened.add(key)
        return FakeUnit(self.system, self.number, number)

    def close(self) -> None:
        self.system.note("card closed")


@dataclass
class FakeXrt:
    """A door to cards that are not there, with all that can go wrong.

    `hanging` cards do not end their runs. The next event of a name in `faults` raises what is
    there. `statuses` are those of the next runs. Nothing gets past `passable` while it is clear.
    """

    overlay: Overlay
    name: str = "fake"
    platforms: list[str] = field(default_factory=lambda: [PLATFORM])
    memory: list[int] = field(default_factory=lambda: [1 << 24, 1 << 24])
    polls: int = 3
    hanging: Container[int] = ()
    stoppable: bool = True
    registers: bool = True
    version: int = abi.ABI_VERSION
    faults: dict[str, Exception] = field(default_factory=dict)
    statuses: list[abi.Status] = field(default_factory=list)
    passable: threading.Event = field(default_factory=threading.Event)
    events: list[str] = field(default_factory=list)
    opened: set[tuple[int, int]] = field(default_factory=set)
    allocations: int = 0

    def __post_init__(self) -> None:
        self.passable.set()

    def note(self, event: str) -> None:
        self.events.append(event)
        if event in self.faults:
            raise self.faults.pop(event)

    def hangs(self, card: int) -> bool:
        return card in self.hanging

    def cards(self) -> list[str]:
        return self.platforms

    def open(self, number: int) -> FakeCard:
        if number >= len(self.platforms):
            raise DeviceNotFoundError(f"XRT has no card {number}")
        self.note("open")
        self.hanging = ()
        return FakeCard(self, number, self.platforms[number])


@pytest.fixture
def fake_xrt(overlay: Overlay) -> FakeXrt:
    return FakeXrt(overlay)
