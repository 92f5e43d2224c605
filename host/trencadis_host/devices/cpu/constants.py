"""Constants that the last step of the dot products reads, for every block of kernels."""

from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.widths import OFFSET_SHIFT, SHIFT_BASE, SHIFT_STEP
from trencadis_host.devices.cpu.keys import KeyForm, RequantiseLayout
from trencadis_host.devices.cpu.programs import LayerProgram
from trencadis_host.devices.cpu.rounding import MAX_FIXES, prove

__all__ = ["requantise_constants"]


def requantise_constants(
    program: LayerProgram, lanes: int
) -> tuple[npt.NDArray[np.uint8], KeyForm, int]:
    """Constants of all blocks of kernels, which form they have, and how many are float32.

    Parameters
    ----------
    program : LayerProgram
        The layer.
    lanes : int
        Kernels of a block.
    """
    outputs = len(program.weights)
    blocks = -(-outputs // lanes)
    layout = RequantiseLayout(lanes)
    memory = np.zeros((blocks, layout.size), np.uint8)

    def write(field: str, values: npt.NDArray[Any], dtype: Any) -> None:
        padded = np.zeros(blocks * lanes, dtype)
        padded[:outputs] = values
        place, size = layout.place(field), lanes * padded.itemsize
        memory[:, place : place + size] = padded.reshape(blocks, lanes).view(np.uint8)

    write("correction", program.corrections, np.int32)
    if program.raw:
        return memory, KeyForm(True, False, False, 0, False, 0, 0, program.sum_bits), 0
    found = prove(program)
    write("scale", found.scale, np.float32)
    write("offset", found.offset, np.float32)
    for fix in range(MAX_FIXES):
        write(f"sum{fix}", found.sums[fix], np.int32)
        write(f"delta{fix}", found.deltas[fix], np.int32)
    proved = np.ones(blocks * lanes, bool)
    proved[:outputs] = found.proved
    fast = proved.reshape(blocks, lanes).all(axis=1)
    place = layout.place("fast")
    memory[:, place : place + 4] = fast.reshape(blocks, 1).astype(np.int32).view(np.uint8)
    write("lift", found.lifts, np.int32)
    fields = program.parameters
    write("ties", fields["ties"], np.int32)
    write("multiplier", fields["multiplier"], np.int64)
    write("added", fields["offset"] << OFFSET_SHIFT, np.int64)
    write("shift", SHIFT_BASE + SHIFT_STEP * fields["shift"], np.int64)
    form = KeyForm(
        raw=False,
        floats=bool(fast.any()),
        exact=not fast.all(),
        fixes=found.fixes,
        lifts=bool(found.lifts.any()),
        low=program.low,
        high=program.high,
        sum_bits=program.sum_bits,
    )
    return memory, form, int(found.proved.sum())
