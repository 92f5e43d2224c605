import numpy as np
import pytest

from trencadis_train.errors import TrainingError
from trencadis_train.sparse.topologies.topology import (
    Topology,
    connections_of_density,
    draw_keys,
    draw_topology,
)


@pytest.mark.parametrize("connections", [1, 7, 150, 299, 300])
def test_drawn_connections_are_all_different(connections: int) -> None:
    topology = draw_topology(20, 15, connections, np.random.default_rng(1))
    assert topology.connections == connections
    keys = topology.keys()
    assert len(np.unique(keys)) == connections
    assert (np.diff(keys) > 0).all()
    assert Topology.from_keys(20, 15, keys).indices.tolist() == topology.indices.tolist()


def test_columns_are_the_same_connections() -> None:
    topology = draw_topology(9, 7, 30, np.random.default_rng(2))
    columns = topology.columns()
    inputs = np.repeat(np.arange(9), np.diff(columns.pointers))
    assert (topology.keys()[columns.places] == columns.rows * 9 + inputs).all()
    assert topology.fan_out().tolist() == np.diff(columns.pointers).tolist()
    assert topology.fan_in().sum() == topology.fan_out().sum() == 30


def test_keys_that_are_taken_are_not_drawn_again() -> None:
    rng = np.random.default_rng(3)
    for count, taken_count in ((5, 80), (50, 40), (10, 0)):
        taken = draw_keys(100, taken_count, rng)
        drawn = draw_keys(100, count, rng, taken)
        assert len(drawn) == count
        assert not np.intersect1d(drawn, taken).size


def test_a_layer_that_is_never_dense() -> None:
    """10^12 places are far more than memory has bytes; keys need 64 bits."""
    topology = draw_topology(1_000_000, 1_000_000, 5000, np.random.default_rng(4))
    keys = topology.keys()
    assert keys.max() > 2**32
    assert topology.connections == 5000
    assert topology.indices.dtype == np.int32


def test_density_as_published() -> None:
    assert connections_of_density(784, 1000, 20) == 35_680
    assert connections_of_density(1000, 10, 20) == 10_000


@pytest.mark.parametrize(
    ("inputs", "outputs", "epsilon", "message"),
    [
        (10, 10, 0.01, "epsilon must leave a connection between 10 inputs and 10 outputs"),
        (0, 10, 1.0, "a layer must have inputs and outputs, not 0 and 10"),
        (2**40, 2**40, 1e-6, "places of a layer must be numbered within 64 bits"),
    ],
)
def test_impossible_densities(inputs: int, outputs: int, epsilon: float, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        connections_of_density(inputs, outputs, epsilon)


def test_more_connections_than_places() -> None:
    with pytest.raises(TrainingError, match=r"connections must number 1\.\.6 between"):
        draw_topology(3, 2, 7, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("pointers", "indices"),
    [
        ([0, 1], [0]),
        ([0, 1, 3], [0, 2, 1]),
        ([0, 1, 3], [0, 1, 1]),
        ([0, 1, 2], [0, 3]),
        ([0, 2, 1], [0, 1]),
        ([0, 1, 2], [0, -1]),
    ],
)
def test_connections_of_anyone_are_checked(pointers: list[int], indices: list[int]) -> None:
    with pytest.raises(TrainingError, match="connections must be sorted rows of 2 outputs"):
        Topology.checked(3, 2, np.array(pointers), np.array(indices))
