"""The binding of XRT's C library, with a library that fails as that does: a value, and `errno`."""

import ctypes
import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trencadis_host import errors as faults
from trencadis_host.devices.xrt.binding import Card, RunState
from trencadis_host.devices.xrt.capi import SIGNATURES, CapiBinding, Library

HANDLE = 0x1000
SOME = Path("some.xclbin")
NAME = "trencadis:{trencadis_1}"


class Fake:
    """A library; functions in `failing` fail with that value of `errno`."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.failing: dict[str, int] = {}
        self.state = 1
        self.memory = ctypes.create_string_buffer(1 << 16)
        for name, (result, _) in SIGNATURES.items():
            setattr(self, name, self._function(name, HANDLE if result is ctypes.c_void_p else 0))

    def _function(self, name: str, good: int) -> Any:
        bad = {"xrtKernelArgGroupId": -1}.get(name, None if good else -1)

        def function(*arguments: Any) -> int | None:
            self.calls.append((name, *arguments))
            if name in self.failing:
                ctypes.set_errno(self.failing[name])
                return bad
            if name == "xrtBOMap":
                return ctypes.addressof(self.memory)
            return self.state if name == "xrtRunState" else good

        return function

    def count(self, name: str) -> int:
        return sum(call[0] == name for call in self.calls)


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def card(fake: Any, monkeypatch: pytest.MonkeyPatch) -> Card:
    monkeypatch.setattr(Library, "driver", lambda library, name: None)
    return CapiBinding(fake).open(0)


def use(library: Any) -> None:
    """All that is done with a card, but closing it."""
    card = CapiBinding(library).open(0)
    card.load(SOME)
    unit = card.unit(NAME)
    buffer = unit.buffer(100, unit.group(0))
    buffer.to_card(100)
    run = unit.run()
    run.set_buffer(1, buffer)
    run.start()


def test_a_run(fake: Fake, card: Card) -> None:
    card.load(SOME)
    unit = card.unit(NAME)
    buffer = unit.buffer(5000, unit.group(0))
    buffer.host[:] = np.arange(5000, dtype=np.uint8)
    assert fake.memory.raw[:5000] == buffer.host.tobytes()
    del fake.calls[:]
    buffer.to_card(10)
    buffer.to_host(5000)
    assert fake.calls == [("xrtBOSync", HANDLE, 0, 4096, 0), ("xrtBOSync", HANDLE, 1, 8192, 0)]
    run = unit.run()
    run.set_buffer(1, buffer)
    run.set_scalar(4, 0xFFFFFFFF)
    run.start()
    states = []
    for fake.state in range(1, 9):
        states.append(run.state())
    assert [n for n, state in enumerate(states, 1) if state is RunState.PENDING] == [1, 2, 3, 7]
    assert [n for n, state in enumerate(states, 1) if state is RunState.DONE] == [4]
    assert unit.write_register(0x60, 1)
    fake.failing["xrtKernelWriteRegister"] = errno.EPERM
    assert not unit.write_register(0x60, 1)


@pytest.mark.parametrize(
    ("name", "number", "error", "text"),
    [
        ("xrtDeviceOpen", errno.ENODEV, faults.DeviceNotFoundError, "no such card"),
        ("xrtDeviceLoadXclbinFile", errno.EBUSY, faults.DeviceBusyError, "is in use"),
        ("xrtDeviceLoadXclbinFile", errno.EPERM, faults.DeviceBusyError, "is in use"),
        ("xrtDeviceLoadXclbinFile", errno.EINVAL, faults.WrongBitstreamError, "Invalid argument"),
        ("xrtDeviceLoadXclbinFile", 0, faults.WrongBitstreamError, "for its platform"),
        ("xrtDeviceGetXclbinUUID", 0, faults.DeviceLostError, "UUID failed; see"),
        ("xrtPLKernelOpenExclusive", errno.EBUSY, faults.DeviceBusyError, "another process"),
        ("xrtPLKernelOpenExclusive", errno.EPERM, faults.DeviceBusyError, "another process"),
        ("xrtPLKernelOpenExclusive", errno.EACCES, faults.DeviceBusyError, "another process"),
        ("xrtPLKernelOpenExclusive", errno.EINVAL, faults.WrongBitstreamError, "cannot be opened"),
        ("xrtKernelArgGroupId", errno.EINVAL, faults.WrongBitstreamError, "argument 0"),
        ("xrtBOAlloc", errno.ENOMEM, faults.DeviceMemoryError, "has no 100 bytes left"),
        ("xrtBOAlloc", 0, faults.DeviceMemoryError, "memory group 0"),
        ("xrtBOAlloc", errno.ENODEV, faults.DeviceLostError, "No such device"),
        ("xrtBOAlloc", errno.EIO, faults.DeviceLostError, "Input/output error"),
        ("xrtBOMap", errno.ENOMEM, faults.DeviceLostError, "xrtBOMap failed"),
        ("xrtBOSync", errno.EIO, faults.DeviceLostError, "Input/output error"),
        ("xrtBOSync", errno.EINVAL, faults.DeviceLostError, "xrtBOSync failed"),
        ("xrtRunOpen", 0, faults.DeviceLostError, "xrtRunOpen failed; see"),
        ("xrtRunSetArg", errno.EINVAL, faults.DeviceLostError, "xrtRunSetArg failed"),
        ("xrtRunStart", errno.ENODEV, faults.DeviceLostError, "No such device"),
    ],
)
@pytest.mark.usefixtures("card")
def test_what_goes_wrong_has_a_name(
    fake: Fake, name: str, number: int, error: type[faults.DeviceError], text: str
) -> None:
    fake.failing[name] = number
    # Not what an earlier call has left.
    ctypes.set_errno(errno.EBUSY)
    with pytest.raises(error, match=text) as caught:
        use(fake)
    assert type(caught.value) is error


def test_what_has_no_memory_on_the_host_is_freed(fake: Fake, card: Card) -> None:
    card.load(SOME)
    unit = card.unit(NAME)
    fake.failing["xrtBOMap"] = errno.ENOMEM
    with pytest.raises(faults.DeviceLostError):
        unit.buffer(100, 0)
    assert fake.count("xrtBOFree") == 1


@pytest.mark.parametrize("name", ["xrtBOFree", "xrtRunClose", "xrtKernelClose", "xrtDeviceClose"])
def test_nothing_is_closed_twice(fake: Fake, card: Card, name: str) -> None:
    card.load(SOME)
    unit = card.unit(NAME)
    parts = {
        "xrtBOFree": unit.buffer(100, 0),
        "xrtRunClose": unit.run(),
        "xrtKernelClose": unit,
        "xrtDeviceClose": card,
    }
    fake.failing[name] = errno.EIO
    for _ in range(2):
        try:
            parts[name].close()
        except faults.DeviceLostError:
            continue
    assert fake.count(name) == 1
