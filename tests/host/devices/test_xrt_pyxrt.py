"""The binding of pyxrt, with bindings that take what its releases of these years take."""

import enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trencadis_host import errors as faults
from trencadis_host.devices.xrt.binding import RunState
from trencadis_host.devices.xrt.pyxrt import PyxrtBinding, open_pyxrt

YEARS = (2022, 2023, 2026)


class State:
    """Has a number, as states of the binding do; one that has no name there is this too."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __int__(self) -> int:
        return self.number


RUNNING = State(3)
STATES = SimpleNamespace(
    ERT_CMD_STATE_NEW=State(1),
    ERT_CMD_STATE_QUEUED=State(2),
    ERT_CMD_STATE_COMPLETED=State(4),
    ERT_CMD_STATE_ERROR=State(5),
    ERT_CMD_STATE_ABORT=State(6),
    ERT_CMD_STATE_SUBMITTED=State(7),
)


class Directions(enum.Enum):
    XCL_BO_SYNC_BO_TO_DEVICE = 0
    XCL_BO_SYNC_BO_FROM_DEVICE = 1


def check(*pairs: tuple[Any, type | tuple[type, ...]]) -> None:
    """Refuse arguments of other types, as the binding does."""
    for value, kind in pairs:
        if not isinstance(value, kind):
            raise TypeError(f"incompatible function arguments: {value!r}")


def make_binding(calls: list[tuple[Any, ...]], *, year: int = 2022) -> Any:
    """A module like pyxrt; what is done with it is noted in `calls`."""

    class Identity:
        pass

    class Xclbin:
        def __init__(self, path: str) -> None:
            check((path, str))
            self.path = path

    class Device:
        def __init__(self, number: int) -> None:
            if number > 1:
                raise RuntimeError("No such device")

        def get_info(self, key: str) -> str:
            return f"the {key} of a card"

        def load_xclbin(self, path: str) -> Identity:
            calls.append(("load_xclbin", path))
            if "busy" in path:
                raise RuntimeError("Device or resource busy")
            if "other" in path:
                raise RuntimeError("Invalid argument")
            return Identity()

        def register_xclbin(self, xclbin: Xclbin) -> Identity:
            check((xclbin, Xclbin))
            calls.append(("register_xclbin", xclbin.path))
            return Identity()

    class Mode(enum.Enum):
        shared = 0
        exclusive = 1

    class HwContext:
        if year >= 2026:
            access_mode = Mode

        def __init__(self, device: Device, identity: Identity, *mode: Mode) -> None:
            check((device, Device), (identity, Identity), *((one, Mode) for one in mode))
            calls.append(("hw_context", *(one.name for one in mode)))

    owners = (Device, HwContext) if year >= 2026 else Device

    class Buffer:
        normal = "normal"

        def __init__(self, owner: Any, size: int, flags: str, group: int) -> None:
            check((owner, owners), (size, int), (flags, str), (group, int))
            calls.append(("bo", size, flags, group))
            if size > 1 << 20:
                raise RuntimeError("bad allocation")
            self.memory = bytearray(size)

        def map(self) -> memoryview:
            return memoryview(self.memory)

        def sync(self, direction: Directions, size: int, offset: int) -> None:
            check((direction, Directions), (size, int), (offset, int))
            calls.append((direction.name[-4:], size, offset))

    class Kernel:
        exclusive = "exclusive"

        def __init__(self, owner: Any, *arguments: Any) -> None:
            kinds = (str,) if isinstance(owner, HwContext) else (Identity, str, str)
            check((owner, (HwContext, Device)), *zip(arguments, kinds, strict=True))
            calls.append(("kernel", type(owner).__name__, *arguments[-2:]))

        def group_id(self, argument: int) -> int:
            if argument > 3:
                raise RuntimeError("not a pointer")
            return 10 + argument

    class Run:
        def __init__(self, kernel: Kernel) -> None:
            check((kernel, Kernel))
            self.reached = STATES.ERT_CMD_STATE_NEW

        def set_arg(self, argument: int, value: Any) -> None:
            check((argument, int), (value, (Buffer, int)))
            calls.append(("set_arg", argument, value if isinstance(value, int) else "a buffer"))

        def start(self) -> None:
            self.reached = RUNNING

        def state(self) -> State:
            return self.reached

    binding = SimpleNamespace(
        device=Device,
        bo=Buffer,
        kernel=Kernel,
        run=Run,
        ert_cmd_state=STATES,
        xclBOSyncDirection=Directions,
        xrt_info_device=SimpleNamespace(name="name"),
        xclbin=Xclbin,
    )
    if year >= 2023:
        binding.hw_context = HwContext
        binding.enumerate_devices = lambda: 2
    return binding


def open_unit(binding: Any) -> Any:
    card = PyxrtBinding(binding).open(0)
    card.load(Path("some.xclbin"))
    return card.unit("trencadis:{trencadis_1}")


@pytest.mark.parametrize("year", YEARS)
def test_a_compute_unit_is_opened_for_us_alone(year: int) -> None:
    calls: list[tuple[Any, ...]] = []
    xrt = PyxrtBinding(make_binding(calls, year=year))
    assert xrt.cards() == ["the name of a card"] * 2
    card = xrt.open(1)
    card.load(Path("some.xclbin"))
    unit = card.unit("trencadis:{trencadis_1}")
    buffer = unit.buffer(100, unit.group(2))
    if year >= 2026:
        assert calls[:-1] == [
            ("register_xclbin", "some.xclbin"),
            ("hw_context", "exclusive"),
            ("kernel", "HwContext", "trencadis:{trencadis_1}"),
        ]
    else:
        assert calls[:-1] == [
            ("load_xclbin", "some.xclbin"),
            ("kernel", "Device", "trencadis:{trencadis_1}", "exclusive"),
        ]
    assert calls[-1] == ("bo", 4096, "normal", 12)
    assert buffer.host.shape == (100,)


@pytest.mark.parametrize("year", YEARS)
def test_a_run(year: int) -> None:
    calls: list[tuple[Any, ...]] = []
    unit = open_unit(make_binding(calls, year=year))
    buffer = unit.buffer(5000, 10)
    buffer.host[:] = np.arange(5000, dtype=np.uint8)
    del calls[:]
    buffer.to_card(10)
    buffer.to_host(5000)
    run = unit.run()
    run.set_buffer(1, buffer)
    run.set_scalar(4, 7)
    run.set_scalar(5, 0xFFFFFFFF)  # the binding takes signed numbers
    assert calls == [
        ("VICE", 4096, 0),
        ("VICE", 8192, 0),
        ("set_arg", 1, "a buffer"),
        ("set_arg", 4, 7),
        ("set_arg", 5, -1),
    ]
    run.start()
    assert run.state() is RunState.PENDING
    run._run.reached = STATES.ERT_CMD_STATE_COMPLETED
    assert run.state() is RunState.DONE
    run._run.reached = STATES.ERT_CMD_STATE_ABORT
    assert run.state() is RunState.FAILED
    assert not unit.write_register(0x60, 1)


def test_what_goes_wrong_has_a_name() -> None:
    xrt = PyxrtBinding(make_binding([]))
    with pytest.raises(faults.DeviceNotFoundError, match="no such card"):
        xrt.open(2)
    card = xrt.open(0)
    with pytest.raises(faults.DeviceBusyError):
        card.load(Path("busy.xclbin"))
    with pytest.raises(faults.WrongBitstreamError):
        card.load(Path("other.xclbin"))
    card.load(Path("some.xclbin"))
    unit = card.unit("trencadis:{trencadis_1}")
    with pytest.raises(faults.WrongBitstreamError, match="no memory for argument 4"):
        unit.group(4)
    with pytest.raises(faults.DeviceMemoryError, match="2,000,000 bytes"):
        unit.buffer(2_000_000, 10)


@pytest.mark.parametrize("error", [RuntimeError, TypeError, ValueError, MemoryError])
@pytest.mark.parametrize("name", ["set_arg", "start", "state", "sync", "map", "run"])
def test_a_call_that_fails_is_a_lost_card(name: str, error: type[Exception]) -> None:
    binding = make_binding([])
    unit = open_unit(binding)

    def fail(*arguments: Any) -> Any:
        raise error("not now")

    buffer, run = unit.buffer(8, 10), unit.run()
    if name == "run":
        binding.run = fail
    else:
        setattr(binding.bo if name in ("sync", "map") else binding.run, name, fail)
    calls = {
        "set_arg": lambda: run.set_scalar(4, 7),
        "start": run.start,
        "state": run.state,
        "sync": lambda: buffer.to_card(8),
        "map": lambda: unit.buffer(8, 10),
        "run": unit.run,
    }
    with pytest.raises(faults.DeviceLostError, match="not now"):
        calls[name]()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("failed to allocate bo: No such device", faults.DeviceLostError),
        ("failed to allocate bo: Input/output error", faults.DeviceLostError),
        ("failed to allocate bo: Cannot allocate memory", faults.DeviceMemoryError),
    ],
)
def test_a_lost_card_is_not_one_without_memory(
    monkeypatch: pytest.MonkeyPatch, text: str, error: type[Exception]
) -> None:
    binding = make_binding([])
    unit = open_unit(binding)

    def fail(*arguments: Any) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(binding.bo, "__init__", fail)
    with pytest.raises(error, match=text):
        unit.buffer(8, 10)


def test_a_missing_binding_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyxrt", None)
    with pytest.raises(faults.XrtMissingError, match="comes with XRT"):
        open_pyxrt()
