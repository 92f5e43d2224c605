"""The device `auto`: what it takes, and what it leaves alone."""

import sys
from pathlib import Path
from typing import Any

import pytest

from trencadis_format.overlay import Overlay
from trencadis_host import Session
from trencadis_host.devices.auto import open_device
from trencadis_host.devices.cpu.device import CpuDevice
from trencadis_host.devices.emulator.device import Emulator
from trencadis_host.devices.protocol import DeviceOptions
from trencadis_host.devices.xrt.device import XrtDevice
from trencadis_host.devices.xrt.xclbin import Xclbin
from trencadis_host.errors import DeviceNameError


@pytest.fixture
def options(overlay: Overlay, xclbin: Path) -> DeviceOptions:
    """With the image's xclbin where it is looked for."""
    xclbin.rename(xclbin.with_name(f"{overlay.kernel.digest:016x}.xclbin"))
    return DeviceOptions(xclbin_dir=xclbin.parent)


def test_a_card_with_the_image_s_xclbin(
    overlay: Overlay, options: DeviceOptions, fake_xrt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trencadis_host.devices.auto.open_binding", lambda: fake_xrt)
    path = options.xclbin(overlay.kernel.digest)
    opened = fake_xrt.open

    def open_ready(number: int) -> Any:
        card = opened(number)
        card.loaded = Xclbin.load(path).uuid.bytes
        return card

    monkeypatch.setattr(fake_xrt, "open", open_ready)
    with open_device("", overlay, options) as device:
        assert isinstance(device, XrtDevice)


def test_nothing_is_loaded_onto_a_card(
    overlay: Overlay, options: DeviceOptions, fake_xrt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trencadis_host.devices.auto.open_binding", lambda: fake_xrt)
    with open_device("", overlay, options) as device:
        assert isinstance(device, CpuDevice)
    assert "load" not in fake_xrt.events


def test_the_processor_without_cards(image: Path) -> None:
    with Session(image) as session:
        assert session.device_name.startswith("cpu:")


def test_the_emulator_without_the_extra(overlay: Overlay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trencadis_host.devices.cpu.device", None)
    told: list[str] = []
    with open_device("", overlay, DeviceOptions(progress=told.append)) as device:
        assert isinstance(device, Emulator)
    assert told == ["llvmlite is not installed (pip install 'trencadis[cpu]'): emulating"]


def test_no_argument(overlay: Overlay) -> None:
    with pytest.raises(DeviceNameError, match="device auto takes nothing after a colon, not '0'"):
        open_device("0", overlay, DeviceOptions())


def test_a_bitstream_that_others_may_have_put_there_is_left_alone(
    overlay: Overlay, options: DeviceOptions, fake_xrt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trencadis_host.devices.auto.open_binding", lambda: fake_xrt)
    options.xclbin(overlay.kernel.digest).parent.chmod(0o777)
    with open_device("", overlay, options) as device:
        assert not isinstance(device, XrtDevice)
