"""Kernels that are made for a network."""

from dataclasses import replace

import numpy as np
import pytest
from tests.fixtures.cuts import run_cut
from tests.fixtures.networks import KERNELS, LayerSpec, k_winners, network, random_network

from trencadis_compiler.cutting.size_kernel import size_kernel
from trencadis_compiler.errors import CompileError
from trencadis_compiler.exact.reference import evaluate
from trencadis_compiler.mapping.place import place
from trencadis_format.config import EngineConfig, KernelConfig
from trencadis_host.devices.emulator.device import Emulator

ARRAYS = ("lanes", "tiles", "kernels_per_tile", "groups", "routing", "requantisers", "queue_beats")

WIDE = network(
    (3, 24, 24),
    LayerSpec(40, (3, 3), padding=(1, 1, 1, 1), winners=k_winners(7)),
    LayerSpec(24, (3, 3), stride=(2, 2)),
    LayerSpec(9, None, raw=True),
    zero_point=-7,
)


def arrays(engine: EngineConfig) -> list[object]:
    return [getattr(engine, name) for name in ARRAYS]


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_memories_grow_until_the_network_fits_whole(name: str) -> None:
    base = KERNELS[name]
    wide = random_network(WIDE, 5)
    with pytest.raises(CompileError):
        place(wide, base.core)
    sized = size_kernel([wide], base)
    assert sized.kernel == size_kernel([wide], base).kernel
    assert sized.kernel != base
    (cut,) = sized.cuts
    assert cut.whole
    for before, after in zip(base.core.engines, sized.kernel.core.engines, strict=True):
        assert arrays(before) == arrays(after)
        assert after.list_entries >= before.list_entries
        assert max(after.select_rows, after.whole_rows) >= 40 / after.requantisers
    placed = place(wide, sized.kernel.core).layers
    assert [layer.source for layer in placed] == [
        layer.source for layer in cut.programs[0].placement.layers
    ]
    keys = np.random.default_rng(3).integers(0, 256, (2, *wide.input.shape)).astype(np.uint8)
    found = run_cut(cut, sized.kernel, keys.transpose(0, 2, 3, 1), Emulator).maps
    expected = evaluate(wide, keys.astype(np.int64)).transpose(0, 2, 3, 1)
    assert np.array_equal(found, expected)


def test_a_kernel_that_holds_all_stays_as_it_is() -> None:
    small = network((2, 6, 6), LayerSpec(4, (3, 3)), LayerSpec(3, None, raw=True))
    base = KERNELS["groups"]
    assert size_kernel([random_network(small, 1), random_network(small, 2)], base).kernel is base


def test_a_kernel_holds_each_of_several_networks() -> None:
    base = KERNELS["groups"]
    networks = [random_network(replace(WIDE, zero_point=zero), 5) for zero in (-7, 30)]
    sized = size_kernel(networks, base)
    assert all(cut.whole for cut in sized.cuts)
    for item in networks:
        place(item, sized.kernel.core)


def test_what_passes_the_formats_is_cut() -> None:
    base: KernelConfig = KERNELS["groups"]
    huge = network((4, 140, 130), LayerSpec(4, (3, 3), padding=(1, 1, 1, 1)), zero_point=-7)
    (cut,) = size_kernel([random_network(huge, 5)], base).cuts
    assert len(cut.programs) == 1
    assert 1 < len(cut.stages[0].stage.pieces) <= 4
