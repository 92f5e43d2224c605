import numpy as np
import pytest

from trencadis_train.sparse.evolve import (
    EvolutionName,
    evolve_layer,
    evolve_network,
    fraction_at,
    smallest_weights,
)
from trencadis_train.sparse.layers import CsrLinear
from trencadis_train.sparse.loops.losses import softmax_cross_entropy
from trencadis_train.sparse.network import CsrNetwork, Hidden
from trencadis_train.sparse.topologies.complementary import draw_complementary
from trencadis_train.sparse.topologies.topology import draw_topology


def make(connections: int = 60) -> CsrNetwork:
    rng = np.random.default_rng(1)
    first, second = draw_topology(20, 10, connections, rng), draw_topology(10, 3, 30, rng)
    return CsrNetwork.begin([first, second], [Hidden(0.0)], rng)


def test_the_weights_closest_to_zero_of_both_signs_go() -> None:
    weights = np.array([1, 2, 3, 4, -1, -2, -0.5, -8], np.float32)
    assert np.flatnonzero(smallest_weights(weights, 0.5)).tolist() == [0, 1, 4, 6]
    assert not smallest_weights(weights, 0.0).any()


@pytest.mark.parametrize("how", ["set", "rigl"])
def test_so_many_change_and_the_rest_stays(how: EvolutionName) -> None:
    network = make()
    x = np.random.default_rng(2).standard_normal((20, 8)).astype(np.float32)
    network.gradients(x, np.zeros(8, np.int64), softmax_cross_entropy, seed=0)
    old = network.layers[0]
    old.momenta[:] = 7
    before = dict(zip(old.topology.keys().tolist(), old.weights.tolist(), strict=True))
    changed = evolve_network(network, how, 0.3, np.random.default_rng(3))
    layer = network.layers[0]
    assert changed == 18  # the second layer is dense
    assert layer.topology.connections == 60
    after = dict(zip(layer.topology.keys().tolist(), layer.weights.tolist(), strict=True))
    kept = before.keys() & after.keys()
    assert len(kept) == 42
    assert all(before[key] == after[key] for key in kept)
    fresh = np.array([key not in kept for key in layer.topology.keys().tolist()])
    assert not layer.momenta[fresh].any()
    assert (layer.momenta[~fresh] == 7).all()
    bound = np.sqrt(6 / 20) if how == "set" else 0
    assert np.abs(layer.weights[fresh]).max() <= bound
    dropped = [abs(weight) for key, weight in before.items() if key not in kept]
    assert max(dropped) < np.median(np.abs(list(before.values())))


def test_gradients_decide_where_rigl_grows() -> None:
    """With as many candidates as free places, the largest gradients are found."""
    network = make(connections=170)
    x = np.random.default_rng(2).standard_normal((20, 8)).astype(np.float32)
    network.gradients(x, np.zeros(8, np.int64), softmax_cross_entropy, seed=0)
    keys = network.layers[0].topology.keys()
    free = np.setdiff1d(np.arange(200), keys)
    rows, columns = np.divmod(free, 20)
    sizes = np.abs(network.gradient_at(0, rows, columns))
    evolve_layer(network, 0, "rigl", 0.03, np.random.default_rng(3))
    grown = np.setdiff1d(network.layers[0].topology.keys(), keys)
    assert sorted(grown) == sorted(free[np.argsort(-sizes)[: len(grown)]])


def test_fixed_and_dense_layers_stay() -> None:
    network = make()
    keys = network.layers[0].topology.keys()
    assert evolve_network(network, "fixed", 0.3, np.random.default_rng(0)) == 0
    assert (network.layers[0].topology.keys() == keys).all()
    assert evolve_layer(network, 1, "set", 0.3, np.random.default_rng(0)) == 0


def test_where_few_places_are_free_no_more_change() -> None:
    network = make(connections=195)
    assert evolve_layer(network, 0, "set", 0.5, np.random.default_rng(0)) == 5


@pytest.mark.parametrize(("ways", "fan_in"), [(2, 6), (5, 4)])
def test_complementary_sets_stay_complementary(ways: int, fan_in: int) -> None:
    rng = np.random.default_rng(4)
    topology = draw_complementary(20, 10, ways, fan_in, rng)
    network = CsrNetwork([CsrLinear.begin(topology, rng)], [])
    changed = evolve_layer(network, 0, "set", 0.4, rng, ways)
    after = network.layers[0].topology
    assert changed > 0
    assert (after.keys() != topology.keys()).any()
    assert (after.fan_in() == fan_in).all()
    for first in range(0, 10, ways):
        own = (after.rows() >= first) & (after.rows() < first + ways)
        assert len(np.unique(after.indices[own])) == ways * fan_in


def test_the_topology_stays_at_last() -> None:
    assert fraction_at(0.3, 0.5, 0.75, cosine=False) == 0.3
    assert fraction_at(0.3, 0.75, 0.75, cosine=False) == 0
    assert fraction_at(0.3, 0.375, 0.75, cosine=True) == pytest.approx(0.15)
