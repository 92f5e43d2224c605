"""The RTL of a kernel that networks are cut for, one of each kind of cut.

Outputs against exact arithmetic, cycles against those that the cut was chosen by.
"""

from pathlib import Path

import numpy as np
import pytest
from tests.fixtures.cuts import run_cut
from tests.fixtures.networks import KERNELS, LayerSpec, k_winners, network, random_network

from trencadis_compiler.cutting.plan_cut import plan_cut
from trencadis_compiler.errors import CompileError
from trencadis_compiler.exact.reference import evaluate
from trencadis_compiler.ir.network import Pool
from trencadis_compiler.mapping.place import place
from trencadis_format.overlay import Overlay
from trencadis_host.devices.protocol import DeviceOptions
from trencadis_sim.verilated.device import Simulator

pytestmark = pytest.mark.rtl

CONV = LayerSpec(4, (3, 3), padding=(1, 1, 1, 1))

CUTS = {
    "sections": network((2, 6, 6), *[CONV] * 9, LayerSpec(4, None, raw=True), zero_point=-7),
    "strips": network((2, 30, 24), CONV, zero_point=5),
    "pooled-strips": network(
        (2, 40, 26), LayerSpec(5, (3, 3), pool=Pool((2, 2), (2, 2)), winners=k_winners(2))
    ),
    "outputs": network((3, 8, 8), LayerSpec(60, None, density=0.9, raw=True), zero_point=9),
    "inputs": network((600, 1, 1), LayerSpec(4, None, winners=k_winners(2)), zero_point=3),
}

TOLERANCE = 0.03
"""Of the cycles of all runs: those of a first sample are known about."""


@pytest.mark.parametrize("name", CUTS)
def test_pieces_equal_exact_arithmetic(name: str, build_dir: Path) -> None:
    kernel = KERNELS["groups"]
    cut_network = random_network(CUTS[name], 6)
    with pytest.raises(CompileError):
        place(cut_network, kernel.core)
    cut = plan_cut(cut_network, kernel)
    shape = cut_network.input.shape
    keys = np.random.default_rng(3).integers(0, 256, (1, *shape)).astype(np.uint8)
    opened: list[Simulator] = []

    def simulator(overlay: Overlay) -> Simulator:
        opened.append(Simulator(overlay, DeviceOptions(build_dir=build_dir, timeout_s=30)))
        return opened[-1]

    try:
        found = run_cut(cut, kernel, keys.transpose(0, 2, 3, 1), simulator)
    finally:
        for device in opened:
            device.close()
    expected = evaluate(cut_network, keys.astype(np.int64)).transpose(0, 2, 3, 1)
    assert np.array_equal(found.maps, expected)
    taken = sum(statistics.cycles or 0 for statistics in found.statistics)
    for program, statistics in zip(cut.programs, found.statistics, strict=True):
        assert statistics.load_cycles == pytest.approx(program.load_cycles, abs=8)
    assert abs(taken - cut.cycles) <= TOLERANCE * taken
