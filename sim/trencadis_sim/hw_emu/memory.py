"""Device memory as large as a card's, of which only what is touched takes room."""

import mmap

import numpy as np
import numpy.typing as npt

__all__ = ["DeviceMemory"]

NO_RESERVE = 0x4000
"""Linux's MAP_NORESERVE, which Python 3.11 has no name for: banks of gigabytes are addresses."""


class DeviceMemory:
    """All memory banks of a card, by address.

    Parameters
    ----------
    size_bytes : int
        Bytes from address 0 to the end of the last bank.
    """

    def __init__(self, size_bytes: int) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
        self.bytes: npt.NDArray[np.uint8] = np.frombuffer(
            mmap.mmap(-1, size_bytes, flags=flags), np.uint8
        )

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Write bytes.

        Raises
        ------
        ValueError
            If they do not lie in memory.
        """
        self._check(address, len(data))
        self.bytes[address : address + len(data)] = np.frombuffer(data, np.uint8)

    def read(self, address: int, size: int) -> bytes:
        """Read bytes.

        Raises
        ------
        ValueError
            If they do not lie in memory.
        """
        self._check(address, size)
        return self.bytes[address : address + size].tobytes()

    def _check(self, address: int, size: int) -> None:
        if address < 0 or size < 0 or address + size > len(self.bytes):
            raise ValueError(
                f"an access must lie in {len(self.bytes)} bytes of memory, "
                f"not be {size} bytes at {address:#x}"
            )
