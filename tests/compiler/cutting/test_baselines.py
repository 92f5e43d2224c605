"""The gain of each sparsity on one array."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.fixtures.networks import KERNELS, LayerSpec, random_network
from tests.fixtures.networks import network as spec_of

from trencadis_boards import load_board
from trencadis_compiler.compile import import_model
from trencadis_compiler.cutting.baselines import cut_baselines, predict_baselines
from trencadis_compiler.cutting.plan_cut import Cut, plan_cut
from trencadis_compiler.ir.kernels import Kernels
from trencadis_compiler.ir.network import Network
from trencadis_compiler.mapping.place import place
from trencadis_compiler.mapping.planner import Planner
from trencadis_compiler.mapping.schedule import schedule
from trencadis_format.config import CoreConfig, KernelConfig

DIGITS = Path(__file__).parents[3] / "examples/digits/digits.onnx"


@pytest.fixture(scope="module")
def network() -> Network:
    return import_model(DIGITS)


@pytest.fixture(scope="module")
def core() -> CoreConfig:
    """The preset's array, with memories for a dense network."""
    found = load_board("sim").kernel.core
    roomy = {"weight_rows": 1 << 16, "list_entries": 1 << 14, "slot_rows": 256}
    return replace(found, engines=(replace(found.engines[0], **roomy),))


@pytest.fixture(scope="module")
def dense(network: Network) -> Network:
    """The network with every weight, and every activation."""
    layers = (
        replace(layer, winners=None, weights=Kernels.of(np.full_like(layer.weights.dense(), -3)))
        for layer in network.layers
    )
    return replace(network, layers=tuple(layers))


def cycles(network: Network, core: CoreConfig) -> float:
    everything = {layer.name: 1.0 for layer in network.layers}
    return schedule(place(network, core, everything)).period / core.batch_lanes


def test_each_sparsity_is_taken_away_alone(network: Network, core: CoreConfig) -> None:
    baselines = predict_baselines(network, core)
    no_winners = replace(
        network, layers=tuple(replace(layer, winners=None) for layer in network.layers)
    )
    assert baselines.sparse_weights == cycles(no_winners, core)
    assert baselines.dense > baselines.sparse_weights > cycles(network, core)


def test_a_dense_network_has_nothing_to_lose(
    network: Network, dense: Network, core: CoreConfig
) -> None:
    baselines = predict_baselines(dense, core)
    assert baselines.dense == baselines.sparse_weights == cycles(dense, core)
    # No weight is zero, so its values do not matter.
    assert baselines.dense == predict_baselines(network, core).dense


def test_memories_of_the_core_do_not_bound_the_dense_network(
    network: Network, core: CoreConfig
) -> None:
    small = load_board("sim").kernel.core
    assert predict_baselines(network, small) == predict_baselines(network, core)


def in_pieces(density: float) -> tuple[Cut, KernelConfig]:
    """A network of a layer whose weights a small core holds in groups alone."""
    kernel = KERNELS["groups"]
    engine = replace(kernel.core.engines[0], weight_rows=24)
    kernel = replace(kernel, core=replace(kernel.core, engines=(engine,)))
    spec = spec_of((8, 4, 4), LayerSpec(40, None, density=density), zero_point=9)
    cut = plan_cut(random_network(spec, 2), kernel)
    assert len(cut.programs) > 1
    return cut, kernel


def test_dense_pieces_have_nothing_to_lose() -> None:
    cut, kernel = in_pieces(1.0)
    baselines = cut_baselines(cut, kernel, Planner())
    assert baselines.dense == baselines.sparse_weights == cut.cycles


def test_pieces_without_zeros_are_cut_likewise() -> None:
    cut, kernel = in_pieces(0.3)
    baselines = cut_baselines(cut, kernel, Planner())
    layers = tuple(
        replace(layer, weights=Kernels.of(np.full_like(layer.weights.dense(), 5)))
        for layer in cut.network.layers
    )
    dense = plan_cut(replace(cut.network, layers=layers), kernel)
    assert baselines.dense == dense.cycles > baselines.sparse_weights == cut.cycles


def test_channels_are_parted_where_no_strip_is_small_enough(core: CoreConfig) -> None:
    """Three rows of the padded map are 221,184 values, more than formats can address."""
    spec = spec_of((4096, 4, 16), LayerSpec(8, (3, 3), padding=(1, 1, 1, 1)), zero_point=9)
    baselines = predict_baselines(random_network(spec, 2), core)
    products = 8 * 4096 * 9 * 64
    assert products / core.multipliers < baselines.dense < products
