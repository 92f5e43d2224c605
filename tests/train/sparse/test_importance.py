import numpy as np

from trencadis_train.sparse.importance import importance, prune_neurons
from trencadis_train.sparse.layers import CsrLinear
from trencadis_train.sparse.network import CsrNetwork, Hidden
from trencadis_train.sparse.topologies.complementary import draw_complementary
from trencadis_train.sparse.topologies.topology import draw_topology


def test_weak_neurons_go_with_all_their_connections() -> None:
    rng = np.random.default_rng(1)
    topologies = [draw_topology(8, 10, 40, rng), draw_topology(10, 4, 20, rng)]
    network = CsrNetwork.begin(topologies, [Hidden(0.6)], rng)
    weak = [2, 7]
    rows = network.layers[0].topology.rows()
    network.layers[0].weights[np.isin(rows, weak)] = 0
    network.layers[0].bias[:] = np.arange(10)
    network.layers[0].bias[weak] = 0
    assert importance(network, 0)[weak].tolist() == [0, 0]
    x = rng.standard_normal((8, 5)).astype(np.float32)
    expected = network.outputs(x)
    assert prune_neurons(network, 15) == 2
    assert network.widths == (8, 8, 4)
    assert np.allclose(network.outputs(x), expected, atol=1e-5)
    assert network.layers[0].bias.tolist() == [0, 1, 3, 4, 5, 6, 8, 9]


def test_sets_go_as_a_whole() -> None:
    rng = np.random.default_rng(2)
    first, second = draw_complementary(12, 8, 4, 3, rng), draw_topology(8, 2, 12, rng)
    network = CsrNetwork([CsrLinear.begin(t, rng) for t in (first, second)], [Hidden(0.0)])
    network.layers[0].weights[network.layers[0].topology.rows() < 4] = 1e-9
    assert prune_neurons(network, 40, (4, 1)) == 4
    topology = network.layers[0].topology
    assert topology.outputs == 4
    assert len(np.unique(topology.indices)) == 12


def test_winners_need_their_neurons() -> None:
    rng = np.random.default_rng(3)
    topologies = [draw_topology(8, 10, 40, rng), draw_topology(10, 4, 20, rng)]
    network = CsrNetwork.begin(topologies, [Hidden(0.0, winners=9)], rng)
    assert prune_neurons(network, 50) == 0
