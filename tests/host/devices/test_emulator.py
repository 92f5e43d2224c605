from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from trencadis_format.image import Target, pack_blocks, unpack_blocks
from trencadis_format.layer_tables import SEQUENCE, SLOT
from trencadis_host.devices.emulator.device import Emulator
from trencadis_host.devices.protocol import DeviceError


def test_equals_exact_arithmetic(make_case: Callable[..., Any], spec: Any, kernel: str) -> None:
    case = make_case(spec, kernel, samples=20)
    with Emulator(case.overlay) as device:
        outputs, statistics = device.run(case.inputs)
    assert np.array_equal(outputs, case.expected)
    assert len(np.unique(outputs, axis=0)) > 10
    assert statistics.samples == 20
    assert statistics.cycles is None


def paired_case(make_case: Callable[..., Any], specs: Any) -> Any:
    case = make_case(specs["exact-winners"], "split-trees", samples=2)
    (rows,) = (b.rows for b in unpack_blocks(case.overlay.image) if b.target is Target.SEQUENCE)
    assert rows[0] >> SEQUENCE.bits - 1 & 1, "the first layer is not paired"
    return case


def test_two_windows_of_a_step_must_be_the_same(make_case: Callable[..., Any], specs: Any) -> None:
    overlay = paired_case(make_case, specs).overlay
    blocks = list(unpack_blocks(overlay.image))
    for i, block in enumerate(blocks):
        if block.target is Target.SLOT and block.start == 0 and block.unit == 0:
            # The last slot is the second window's.
            offset = SLOT.unpack(block.rows[-1] & ((1 << SLOT.bits) - 1))["offset"]
            moved = SLOT.pack(offset=offset + 1, valid=1)
            blocks[i] = replace(block, rows=[*block.rows[:-1], moved])
    with pytest.raises(DeviceError, match="windows of a step of layer 0 of engine 0 are not the "):
        Emulator(replace(overlay, image=pack_blocks(blocks)))


@pytest.mark.parametrize("slots", [0, 1, 5])
def test_two_windows_of_a_step_have_a_middle_slot(
    make_case: Callable[..., Any], specs: Any, slots: int
) -> None:
    overlay = paired_case(make_case, specs).overlay
    blocks = list(unpack_blocks(overlay.image))
    for i, block in enumerate(blocks):
        if block.target is Target.SEQUENCE:
            # Rows are whole bus samples.
            fields = SEQUENCE.unpack(block.rows[0] & ((1 << SEQUENCE.bits) - 1))
            first = SEQUENCE.pack(**{**fields, "slots": slots})
            blocks[i] = replace(block, rows=[first, *block.rows[1:]])
    with pytest.raises(DeviceError, match="layer 0 of engine 0 has no middle slot"):
        Emulator(replace(overlay, image=pack_blocks(blocks)))


def test_other_trees_do_not_split(make_case: Callable[..., Any], specs: Any) -> None:
    overlay = paired_case(make_case, specs).overlay
    core = overlay.kernel.core
    trees = replace(core, engines=(replace(core.engines[0], routing="trees"),))
    with pytest.raises(DeviceError, match="layer 0 of engine 0 cannot have two windows per step"):
        Emulator(replace(overlay, kernel=replace(overlay.kernel, core=trees)))
