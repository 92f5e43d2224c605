"""A card with its compute units, which may be given up and opened again."""

import contextlib

from trencadis_format.overlay import Overlay
from trencadis_host.devices.xrt.binding import Card, XrtBinding
from trencadis_host.devices.xrt.unit import KERNEL_NAME, LoadedUnit
from trencadis_host.devices.xrt.xclbin import Xclbin
from trencadis_host.errors import DeviceError, WrongBitstreamError

__all__ = ["LoadedCard"]


class LoadedCard:
    """A card with a network on all its compute units, once it is opened.

    Parameters
    ----------
    name : str
        What the device is called in messages.
    binding : XrtBinding
        The way into XRT.
    number : int
        Number of the card.
    xclbin : Xclbin
        What is loaded.
    overlay : Overlay
        The network.

    Attributes
    ----------
    units : list of LoadedUnit
        Empty while the card is closed.
    """

    def __init__(
        self, name: str, binding: XrtBinding, number: int, xclbin: Xclbin, overlay: Overlay
    ) -> None:
        self._name = name
        self._binding = binding
        self._number = number
        self._xclbin = xclbin
        self._overlay = overlay
        self._parts = contextlib.ExitStack()
        self.units: list[LoadedUnit] = []

    def open(self) -> None:
        """Open the card and its compute units, and put the network there.

        Raises
        ------
        DeviceError
            If that fails; nothing is open then.
        """
        with contextlib.ExitStack() as parts:
            card = self._binding.open(self._number)
            parts.callback(card.close)
            self._check_platform(card)
            card.load(self._xclbin.path)
            units: list[LoadedUnit] = []
            for unit in self._xclbin.units:
                if unit.kernel == KERNEL_NAME:
                    units.append(LoadedUnit(card.unit(unit.name), self._overlay))
                    parts.callback(units[-1].close)
            self._parts, self.units = parts.pop_all(), units

    def close(self) -> None:
        """Give everything back; what cannot be given back is left to XRT."""
        self.units = []
        with contextlib.suppress(DeviceError):
            self._parts.close()

    def _check_platform(self, card: Card) -> None:
        """XRT checks the platform of real cards itself; names of theirs are not the platform's."""
        wanted = self._xclbin.platform
        if self._xclbin.emulated and card.platform and card.platform != wanted:
            raise WrongBitstreamError(
                f"device {self._name}: {self._xclbin.path} is for platform {wanted}, card "
                f"{self._number} is a {card.platform}; build it for that one"
            )
