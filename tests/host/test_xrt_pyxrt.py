"""The door to pyxrt, with a binding that looks like the newer and like the older ones."""

import enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trencadis_host import faults
from trencadis_host.door import RunState
from trencadis_host.xrt_pyxrt import BindingDoor, open_binding


class States(enum.Enum):
    ERT_CMD_STATE_NEW = 1
    ERT_CMD_STATE_QUEUED = 2
    ERT_CMD_STATE_RUNNING = 3
    ERT_CMD_STATE_COMPLETED = 4
    ERT_CMD_STATE_ERROR = 5
    ERT_CMD_STATE_ABORT = 6
    ERT_CMD_STATE_SUBMITTED = 7


class Directions(enum.Enum):
    XCL_BO_SYNC_BO_TO_DEVICE = 0
    XCL_BO_SYNC_BO_FROM_DEVICE = 1


def make_binding(calls: list[tuple[Any, ...]], *, new: bool) -> Any:
    """A module like pyxrt; what is done with it is noted in `calls`."""

    class Device:
        def __init__(self, number: int) -> None:
            if number > 1:
                raise RuntimeError("No such device")

        def get_info(self, key: str) -> str:
            return f"the {key} of a card"

        def load_xclbin(self, path: str) -> str:
            calls.append(("load_xclbin", path))
            if "busy" in path:
                raise RuntimeError("Device or resource busy")
            if "other" in path:
                raise RuntimeError("Invalid argument")
            return "an identity"

        if new:

            def register_xclbin(self, xclbin: str) -> str:
                calls.append(("register_xclbin", xclbin))
                return "an identity"

    class Buffer:
        normal = "normal"

        def __init__(self, owner: Any, size: int, flags: str, group: int) -> None:
            calls.append(("bo", type(owner).__name__, size, flags, group))
            if size > 1 << 20:
                raise RuntimeError("bad allocation")
            self.memory = bytearray(size)

        def map(self) -> memoryview:
            return memoryview(self.memory)

        def sync(self, direction: Directions, size: int, offset: int) -> None:
            calls.append((direction.name[-4:], size, offset))

    class Kernel:
        exclusive = "exclusive"

        def __init__(self, owner: Any, *arguments: str) -> None:
            calls.append(("kernel", type(owner).__name__, *arguments))

        def group_id(self, argument: int) -> int:
            if argument > 3:
                raise RuntimeError("not a pointer")
            return 10 + argument

    class Run:
        def __init__(self, kernel: Kernel) -> None:
            self.reached = States.ERT_CMD_STATE_NEW

        def set_arg(self, argument: int, value: Any) -> None:
            calls.append(("set_arg", argument, value if isinstance(value, int) else "a buffer"))

        def start(self) -> None:
            self.reached = States.ERT_CMD_STATE_RUNNING

        def state(self) -> States:
            return self.reached

    class HwContext:
        def __init__(self, device: Device, identity: str) -> None:
            calls.append(("hw_context", identity))

    binding = SimpleNamespace(
        device=Device,
        bo=Buffer,
        kernel=Kernel,
        run=Run,
        ert_cmd_state=States,
        xclBOSyncDirection=Directions,
        xrt_info_device=SimpleNamespace(name="name"),
    )
    if new:
        binding.hw_context = HwContext
        binding.xclbin = lambda path: f"xclbin {path}"
        binding.enumerate_devices = lambda: 2
    return binding


@pytest.mark.parametrize("new", [False, True])
def test_an_xclbin_is_loaded_the_way_the_binding_offers(new: bool) -> None:
    calls: list[tuple[Any, ...]] = []
    door = BindingDoor(make_binding(calls, new=new))
    assert door.cards() == ["the name of a card"] * 2
    card = door.open(1)
    card.load(Path("some.xclbin"))
    unit = card.unit("trencadis:{trencadis_1}")
    buffer = unit.buffer(100, unit.group(2))
    if new:
        assert calls == [
            ("register_xclbin", "xclbin some.xclbin"),
            ("hw_context", "an identity"),
            ("kernel", "HwContext", "trencadis:{trencadis_1}"),
            ("bo", "HwContext", 4096, "normal", 12),
        ]
    else:
        assert calls == [
            ("load_xclbin", "some.xclbin"),
            ("kernel", "Device", "an identity", "trencadis:{trencadis_1}", "exclusive"),
            ("bo", "Device", 4096, "normal", 12),
        ]
    assert buffer.host.shape == (100,)


def test_a_run() -> None:
    calls: list[tuple[Any, ...]] = []
    card = BindingDoor(make_binding(calls, new=False)).open(0)
    card.load(Path("some.xclbin"))
    unit = card.unit("trencadis:{trencadis_1}")
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
    run._run.reached = States.ERT_CMD_STATE_COMPLETED
    assert run.state() is RunState.DONE
    run._run.reached = States.ERT_CMD_STATE_ABORT
    assert run.state() is RunState.FAILED
    assert not unit.write_register(0x60, 1)


def test_what_goes_wrong_has_a_name() -> None:
    door = BindingDoor(make_binding([], new=False))
    with pytest.raises(faults.DeviceNotFoundError, match="no such card"):
        door.open(2)
    card = door.open(0)
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


def test_a_missing_binding_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyxrt", None)
    with pytest.raises(faults.XrtMissingError, match="comes with XRT"):
        open_binding()
