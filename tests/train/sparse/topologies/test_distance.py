import numpy as np
import pytest

from trencadis_train.errors import TrainingError
from trencadis_train.sparse.topologies.distance import topology_distance
from trencadis_train.sparse.topologies.topology import Topology, draw_topology


def layers(rng: np.random.Generator) -> list[Topology]:
    return [
        draw_topology(30, 12, 60, rng),
        draw_topology(12, 9, 30, rng),
        draw_topology(9, 4, 18, rng),
    ]


def renamed(network: list[Topology], rng: np.random.Generator) -> list[Topology]:
    """The same network with its hidden neurons in another order."""
    found, names = [], np.arange(network[0].inputs)
    for number, layer in enumerate(network):
        rows = np.arange(layer.outputs)
        if number < len(network) - 1:
            rows = rng.permutation(layer.outputs)
        keys = np.sort(rows[layer.rows()] * layer.inputs + names[layer.indices])
        found.append(Topology.from_keys(layer.inputs, layer.outputs, keys))
        names = rows
    return found


def test_names_of_neurons_do_not_count() -> None:
    network = layers(np.random.default_rng(2))
    other = renamed(network, np.random.default_rng(3))
    assert any((a.keys() != b.keys()).any() for a, b in zip(network, other, strict=True))
    assert topology_distance(network, other).mean == 0


def test_random_networks_are_apart_and_changed_ones_nearer() -> None:
    network, other = layers(np.random.default_rng(2)), layers(np.random.default_rng(4))
    far = topology_distance(network, other)
    keys = network[0].keys()
    near = [Topology.from_keys(30, 12, np.sort(np.append(keys[1:], _free(keys)))), *network[1:]]
    assert 0 < topology_distance(network, near).layers[0] < 0.1 < far.layers[0] <= 1
    assert far.mean == pytest.approx(np.average(far.layers, weights=[12, 9, 4]))


def _free(keys: np.ndarray) -> int:
    return int(np.setdiff1d(np.arange(360), keys)[0])


def test_sets_with_nothing_in_common_are_one_apart() -> None:
    one = Topology.from_keys(4, 2, np.array([0, 1, 4, 5]))
    other = Topology.from_keys(4, 2, np.array([2, 3, 6, 7]))
    assert topology_distance([one], [other]).layers == (1.0,)


def test_networks_of_other_shapes_are_refused() -> None:
    network = layers(np.random.default_rng(2))
    with pytest.raises(TrainingError, match="networks must have equal layers"):
        topology_distance(network, network[:2])
    wide = Topology(1, 20_001, np.zeros(20_002, np.int32), np.zeros(0, np.int32))
    with pytest.raises(TrainingError, match="layers must have 20000 neurons at most"):
        topology_distance([wide], [wide])
