"""The card that XRT's emulation driver talks to: memory, compute units, and its calls."""

import time
from collections.abc import Mapping

from trencadis_sim.hw_emu.memory import DeviceMemory
from trencadis_sim.hw_emu.messages import LAYOUTS, Call, parse_call, response
from trencadis_sim.hw_emu.unit import ComputeUnit
from trencadis_sim.hw_emu.wire import WireError

__all__ = ["Card", "CardError"]

WORD = 4
"""Bytes of a register."""


class CardError(RuntimeError):
    """The driver asked for something that this card does not do. One line."""


class Card:
    """Answers calls.

    Parameters
    ----------
    memory : DeviceMemory
        The card's memory.
    units : mapping of int to ComputeUnit
        Compute units by the base address of their registers.
    address_range : int
        Bytes of registers of a compute unit.
    """

    def __init__(
        self, memory: DeviceMemory, units: Mapping[int, ComputeUnit], address_range: int
    ) -> None:
        self._memory = memory
        self._units = dict(units)
        self._address_range = address_range
        self._started = time.monotonic_ns()
        self.closed = False

    def answer(self, number: int, message: memoryview) -> bytes:
        """The answer to a call, header included.

        Raises
        ------
        CardError, WireError
            If the call is not known, or its message is damaged.
        """
        try:
            call = Call(number)
        except ValueError:
            raise CardError(
                f"the driver made call {number}, which a card with memory-mapped kernels does not "
                "get; use the XRT this was made for"
            ) from None
        fields = parse_call(call, message)
        match call:
            case Call.COPY_TO_DEVICE:
                size, data = _integer(fields["size"]), _bytes(fields["data"])
                self._memory.write(_integer(fields["address"]), data[:size])
                return response(call, size=size)
            case Call.COPY_TO_HOST:
                size = _integer(fields["size"])
                data = self._memory.read(_integer(fields["address"]), size)
                return response(call, size=size, data=data)
            case Call.WRITE_MEMORY:
                data = _bytes(fields["data"])[: _integer(fields["size"])]
                self._memory.write(_integer(fields["address"]), data)
            case Call.READ_MEMORY:
                data = self._memory.read(_integer(fields["address"]), _integer(fields["size"]))
                return response(call, valid=1, data=data)
            case Call.WRITE_KERNEL | Call.WRITE_REGISTER:
                data = _bytes(fields["data"])[: _integer(fields.get("size", 4))]
                self._write(_address(fields), data)
            case Call.READ_KERNEL | Call.READ_REGISTER:
                data = self._read(_address(fields), _integer(fields["size"]))
                return response(call, valid=1, data=data)
            case Call.TIMESTAMP:
                return response(call, timestamp=time.monotonic_ns() - self._started)
            case Call.CLOSE:
                self.closed = True
        return response(call, **dict.fromkeys(LAYOUTS[call].answer, 1))

    def stop(self) -> None:
        """Stop all clocks."""
        for unit in self._units.values():
            unit.stop()

    def _unit(self, address: int) -> tuple[ComputeUnit, int]:
        base = address - address % self._address_range
        unit = self._units.get(base)
        if unit is None:
            raise CardError(f"the driver used registers at {address:#x}, where there are none")
        return unit, address - base

    def _write(self, address: int, data: memoryview) -> None:
        unit, register = self._unit(address)
        for i in range(0, len(data), WORD):
            unit.write(register + i, int.from_bytes(data[i : i + WORD], "little"))

    def _read(self, address: int, size: int) -> bytes:
        unit, register = self._unit(address)
        words = [unit.read(register + i) for i in range(0, size, WORD)]
        return b"".join(word.to_bytes(4, "little") for word in words)[:size]


def _integer(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise WireError("a field that must be a number is not one")
    return value


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise WireError("a field that must be bytes is a number")
    return value


def _address(fields: Mapping[str, int | memoryview]) -> int:
    return _integer(fields.get("base", 0)) + _integer(fields["address"])
