"""Networks that no core holds: cut, assembled and run piece by piece on the emulator."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.fixtures.cuts import run_cut
from tests.fixtures.networks import (
    KERNELS,
    LayerSpec,
    k_winners,
    network,
    random_network,
)

from trencadis_boards import load_board
from trencadis_compiler.cutting.plan_cut import Cut, plan_cut
from trencadis_compiler.errors import CompileError
from trencadis_compiler.exact.reference import evaluate
from trencadis_compiler.ir.kernels import Kernels
from trencadis_compiler.ir.network import Network, Pool
from trencadis_compiler.mapping.place import place
from trencadis_compiler.mapping.schedule import schedule
from trencadis_format.config import KernelConfig
from trencadis_host.devices.emulator.device import Emulator


def with_engines(kernel: KernelConfig, **fields: Any) -> KernelConfig:
    """The kernel with engines that have less of something."""
    engines = tuple(replace(engine, **fields) for engine in kernel.core.engines)
    return replace(kernel, core=replace(kernel.core, engines=engines))


def check(network: Network, kernel: KernelConfig) -> Cut:
    """Cut a network that does not fit whole, and compare it with exact arithmetic."""
    with pytest.raises(CompileError):
        place(network, kernel.core)
    return compare(network, kernel)


def compare(network: Network, kernel: KernelConfig) -> Cut:
    """Cut a network, and compare it with exact arithmetic."""
    cut = plan_cut(network, kernel)
    keys = np.random.default_rng(3).integers(0, 256, (3, *network.input.shape)).astype(np.uint8)
    found = run_cut(cut, kernel, keys.transpose(0, 2, 3, 1), Emulator).maps
    expected = evaluate(network, keys.astype(np.int64)).transpose(0, 2, 3, 1)
    assert np.array_equal(found, expected)
    assert (found != found.flat[0]).any()
    assert not cut.whole
    return cut


CHAIN = network(
    (2, 9, 8),
    LayerSpec(6, (3, 3), padding=(1, 1, 1, 1)),
    LayerSpec(8, (3, 3), pool=Pool((2, 2), (2, 2)), winners=k_winners(3)),
    LayerSpec(5, (2, 2), table=True),
    LayerSpec(4, None, raw=True),
    zero_point=-7,
)


@pytest.mark.parametrize("name", ["groups", "trees-lockstep", "split-trees"])
def test_a_long_chain_becomes_sections(name: str) -> None:
    cut = check(random_network(CHAIN, 2), with_engines(KERNELS[name], layers=2))
    layers = [name for stage in cut.stages for name in stage.stage.layers]
    assert layers == ["layer0", "layer1", "layer2", "layer3"]
    assert max(len(stage.stage.layers) for stage in cut.stages) == 2


def test_a_wide_map_becomes_strips() -> None:
    spec = network((3, 20, 17), LayerSpec(6, (3, 3), padding=(1, 1, 1, 1), raw=True), zero_point=9)
    cut = check(random_network(spec, 2), with_engines(KERNELS["groups"], dense_values=400))
    assert len(cut.programs) == 1
    assert len(cut.stages[0].stage.pieces) > 1


def test_many_kernels_become_groups() -> None:
    spec = network((1, 4, 4), LayerSpec(40, None, density=0.9), zero_point=9)
    cut = check(random_network(spec, 2), with_engines(KERNELS["groups"], weight_rows=24))
    assert len(cut.programs) > 1
    assert not cut.stages[0].stage.join.sums


def test_many_channels_become_sums() -> None:
    spec = network(
        (700, 1, 1), LayerSpec(4, None, winners=k_winners(2)), LayerSpec(3, None, raw=True)
    )
    kernel = with_engines(KERNELS["groups"], dense_values=256, list_entries=16)
    cut = check(random_network(spec, 2), kernel)
    assert cut.stages[0].stage.join.sums
    assert cut.stages[0].stage.join.finish is not None


def test_parts_may_have_larger_sums_than_the_largest_part() -> None:
    """The second half's weights need more bits than the first's: halves do not do."""
    weights = np.ones((4, 64, 1, 1), np.int8)
    weights[:, 32:] = np.array([127, 126, 125, -127], np.int8).reshape(4, 1, 1, 1)
    plain = random_network(network((64, 1, 1), LayerSpec(4, None, raw=True)), 2)
    layer = replace(plain.layers[0], weights=Kernels.of(weights))
    cut = compare(replace(plain, layers=(layer,)), with_engines(KERNELS["groups"], sum_bits=19))
    assert len(cut.stages[0].stage.pieces) > 2


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_everything_at_once(name: str) -> None:
    kernel = with_engines(KERNELS[name], weight_rows=40, layers=3)
    kernel = replace(
        kernel,
        core=replace(
            kernel.core,
            engines=(replace(kernel.core.engines[0], dense_values=70), *kernel.core.engines[1:]),
        ),
    )
    check(random_network(CHAIN, 3), kernel)


def test_what_fits_is_left_whole() -> None:
    network = random_network(CHAIN, 2)
    cut = plan_cut(network, KERNELS["groups"])
    assert cut.whole
    assert cut.programs[0].placement.network is network


def test_dense_channels_of_a_position_are_sent_as_a_list_where_lanes_share_them() -> None:
    spec = network((64, 5, 4), LayerSpec(24, (1, 1), density=1.0), zero_point=9)
    made = random_network(spec, 2)
    kernel = load_board("sim").kernel
    cut = plan_cut(made, kernel)
    assert cut.whole
    assert cut.network.input.nonzeros == 64
    dense = schedule(place(made, kernel.core)).period
    assert cut.cycles < dense / 2
    keys = np.random.default_rng(3).integers(0, 256, (3, 64, 5, 4)).astype(np.uint8)
    found = run_cut(cut, kernel, keys.transpose(0, 2, 3, 1), Emulator).maps
    expected = evaluate(made, keys.astype(np.int64)).transpose(0, 2, 3, 1)
    assert np.array_equal(found, expected)


def test_windows_of_more_positions_are_sent_dense() -> None:
    spec = network((64, 5, 4), LayerSpec(24, (3, 3), density=1.0), zero_point=9)
    cut = plan_cut(random_network(spec, 2), load_board("sim").kernel)
    assert cut.network.input.nonzeros is None
