import numpy as np
import pytest

from trencadis_train.sparse.loops import activations, kernels
from trencadis_train.sparse.loops.tiles import PAIR, TILE
from trencadis_train.sparse.topologies.topology import draw_topology

# Small integers: sums are exact in float32 in whatever order they are added.


@pytest.mark.parametrize("connections", [0, 1, 3, 40, 117, 221])
@pytest.mark.parametrize("batch", [5, PAIR, TILE + PAIR + 3])
def test_passes_equal_dense_ones(connections: int, batch: int) -> None:
    rng = np.random.default_rng(connections)
    inputs, outputs = 17, 13
    topology = draw_topology(inputs, outputs, max(connections, 1), rng)
    weights = rng.integers(-4, 5, topology.connections).astype(np.float32)
    bias = rng.integers(-9, 9, outputs).astype(np.float32)
    dense = np.zeros(inputs * outputs, np.float32)
    dense[topology.keys()] = weights
    matrix = dense.reshape(outputs, inputs)
    x = rng.integers(-5, 6, (inputs, batch)).astype(np.float32)
    z = np.full((outputs, batch), np.nan, np.float32)
    kernels.forward(topology.pointers, topology.indices, weights, bias, x, z)
    assert (z == matrix @ x + bias[:, None]).all()
    columns = topology.columns()
    dz = rng.integers(-5, 6, (outputs, batch)).astype(np.float32)
    dw = np.full((3, topology.connections), np.nan, np.float32)
    dx, before = (np.full((inputs, batch), np.nan, np.float32) for _ in range(2))
    factor = rng.integers(-2, 3, (inputs, batch)).astype(np.float32)
    sums = np.full(inputs, np.nan, np.float32)
    of = (columns.pointers, columns.rows, columns.places, weights, x, dz)
    kernels.backward(*of, dx, dw[0])
    kernels.backward_activated(*of, before, dw[1], factor, sums)
    kernels.backward_weights(*of, dw[2])
    assert (dw == (dz @ x.T).ravel()[topology.keys()]).all()
    assert (dx == matrix.T @ dz).all()
    assert (before == dx * factor).all()
    assert (sums == before.sum(axis=1)).all()


def test_activations_of_sums_are_the_same_in_one_pass() -> None:
    rng = np.random.default_rng(1)
    topology = draw_topology(17, 13, 40, rng)
    weights, x = (rng.integers(-4, 5, n).astype(np.float32) for n in (40, (17, 7)))
    bias = np.zeros(13, np.float32)
    z, factor, a, together = (np.empty((13, 7), np.float32) for _ in range(4))
    of = (topology.pointers, topology.indices, weights, bias, x)
    kernels.forward(*of, z)
    activations.activate(z, factor, -0.5, 0.25, 9)
    kernels.forward_activated(*of, a, together, -0.5, 0.25, 9)
    assert (a == z).all()
    assert (together == factor).all()


def test_gradient_where_there_is_no_connection() -> None:
    rng = np.random.default_rng(1)
    x, dz = (rng.integers(-5, 6, (n, 7)).astype(np.float32) for n in (6, 4))
    rows, columns = np.divmod(np.arange(24), 6)
    out = np.empty(24, np.float32)
    kernels.gradient_at(rows, columns, x, dz, out)
    assert (out == (dz @ x.T).ravel()).all()


def test_momentum_as_published() -> None:
    weights, momenta, gradients = (np.array([n], np.float32) for n in (2, 4, 8))
    kernels.apply_momentum(weights, momenta, gradients, 0.5, 0.25, 0.125, 0.5)
    assert momenta.tolist() == [0.25 * 4 - 0.5 * 0.5 * 8]
    assert weights.tolist() == [2 - 1 - 0.125 * 2]


def test_batches_are_feature_major() -> None:
    examples = np.arange(300, dtype=np.uint8).reshape(3, 100)
    x = np.empty((100, 2), np.float32)
    mean, inverse = np.full(100, 2, np.float32), np.full(100, 0.5, np.float32)
    kernels.load_batch(examples, np.array([2, 0]), mean, inverse, x)
    assert (x == (examples[[2, 0]].T.astype(np.float32) - 2) / 2).all()


def test_squares_are_summed_in_double_precision() -> None:
    assert kernels.squared_norm(np.array([4096.0, 1.0], np.float32)) == 2**24 + 1
