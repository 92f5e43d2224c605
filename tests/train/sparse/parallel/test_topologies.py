import numpy as np

from trencadis_train.sparse.layers import CsrLinear
from trencadis_train.sparse.parallel.topologies import average_layers, moved_gradients
from trencadis_train.sparse.topologies.topology import Topology


def layer(keys: list[int], weights: list[float]) -> CsrLinear:
    topology = Topology.from_keys(10, 4, np.array(keys))
    made = CsrLinear.of(topology, np.array(weights, np.float32))
    made.momenta[:] = made.weights / 2
    made.bias[:] = len(keys)
    return made


def test_gradients_of_removed_connections_are_discarded() -> None:
    current, stale = np.array([1, 4, 2**40, 2**41]), np.array([1, 3, 4, 2**40, 2**40 + 1])
    gradients = np.array([10, 20, 30, 40, 50], np.float32)
    assert moved_gradients(current, stale, gradients).tolist() == [10, 30, 40, 0]
    assert moved_gradients(current[:0], stale, gradients).tolist() == []


def test_the_mean_is_over_the_union_and_cut_again() -> None:
    one, other = layer([0, 5, 9], [4, 2, -6]), layer([5, 7, 9], [2, 1, -2])
    mean = average_layers([one, other], 3)
    assert mean.topology.keys().tolist() == [0, 5, 9]
    assert mean.weights.tolist() == [2, 2, -4]
    assert mean.momenta.tolist() == [1, 1, -2]
    assert mean.bias.tolist() == [3, 3, 3, 3]
    assert average_layers([one, other], 9).topology.keys().tolist() == [0, 5, 7, 9]
    assert (average_layers([one, one], 3).weights == one.weights).all()
