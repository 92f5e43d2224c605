"""The device `auto`: the fastest that is there for an image."""

import contextlib

from trencadis_format.cut_segment import CutSegment
from trencadis_format.overlay import Overlay
from trencadis_format.user_cache import CacheError
from trencadis_host.devices.emulator.device import open_device as open_emulator
from trencadis_host.devices.protocol import Device, DeviceOptions, SegmentDevice
from trencadis_host.devices.xrt.device import XrtDevice, open_binding
from trencadis_host.devices.xrt.xclbin import Xclbin, XclbinError
from trencadis_host.errors import DeviceError, DeviceNameError

__all__ = ["open_device", "open_segment"]


def open_device(argument: str, overlay: Overlay, options: DeviceOptions) -> Device:
    """Cards that are ready for the image, else the processor, else the emulator.

    A card is ready if the xclbin on it is the one of the image's configuration: nothing is loaded
    onto a card that somebody else may be using.

    Raises
    ------
    DeviceError
        If there is an argument, or the image cannot be decoded.
    """
    if argument:
        raise DeviceNameError(f"device auto takes nothing after a colon, not {argument!r}")
    with contextlib.suppress(CacheError, DeviceError, XclbinError):
        cards = _open_cards(overlay, options)
        if cards is not None:
            return cards
    try:
        from trencadis_host.devices.cpu.device import open_device as open_cpu
    except ImportError:
        options.progress("llvmlite is not installed (pip install 'trencadis[cpu]'): emulating")
        return open_emulator("", overlay, options)
    try:
        return open_cpu("", overlay, options)
    except DeviceNameError as error:
        options.progress(f"emulating: {error}")
        return open_emulator("", overlay, options)


def open_segment(
    argument: str, segment: CutSegment, options: DeviceOptions
) -> SegmentDevice | None:
    """The processor for a whole segment in pieces; None where `open_device` takes another device.

    Raises
    ------
    DeviceError
        If an image cannot be decoded.
    """
    if argument:
        return None  # `open_device` says so
    with contextlib.suppress(CacheError, DeviceError, XclbinError):
        cards = _open_cards(segment.overlays[0], options)
        if cards is not None:
            cards.close()
            return None
    try:
        from trencadis_host.devices.cpu.segment import open_segment as open_cpu
    except ImportError:
        return None
    try:
        return open_cpu("", segment, options)
    except DeviceNameError:
        return None


def _open_cards(overlay: Overlay, options: DeviceOptions) -> XrtDevice | None:
    """The cards that have the image's xclbin; None if there are none."""
    path = options.xclbin(overlay.kernel.digest)
    if not path.is_file():
        return None
    wanted = Xclbin.load(path).uuid.bytes
    binding = open_binding()
    ready = []
    for number in range(len(binding.cards())):
        card = binding.open(number)
        try:
            if card.loaded == wanted:
                ready.append(number)
        finally:
            card.close()
    if not ready:
        return None
    name = f"xrt:{','.join(map(str, ready))}"
    return XrtDevice(name, binding, ready, path, overlay, options.timeout_s)
