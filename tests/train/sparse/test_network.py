import numpy as np
import pytest

from trencadis_train.errors import TrainingError
from trencadis_train.sparse.loops.losses import softmax_cross_entropy
from trencadis_train.sparse.network import CsrNetwork, Hidden
from trencadis_train.sparse.optimiser import Momentum
from trencadis_train.sparse.topologies.topology import draw_topology

WIDTHS = (12, 9, 8, 4)


def make(seed: int = 0, dropout: float = 0.0, winners: int = 0) -> CsrNetwork:
    rng = np.random.default_rng(seed)
    topologies = [
        draw_topology(a, b, a * b // 2, rng) for a, b in zip(WIDTHS, WIDTHS[1:], strict=False)
    ]
    hidden = [Hidden(-0.6, winners, dropout), Hidden(0.6, 0, dropout)]
    return CsrNetwork.begin(topologies, hidden, rng)


def batch(seed: int = 0, size: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((12, size)).astype(np.float32), rng.integers(0, 4, size)


@pytest.mark.parametrize("winners", [0, 4])
def test_gradients_are_those_of_the_loss(winners: int) -> None:
    network, (x, labels) = make(winners=winners), batch()
    network.gradients(x, labels, softmax_cross_entropy, seed=1)
    for layer in network.layers:
        expected = layer.gradients.copy()
        for place in (0, len(expected) // 2):
            losses = []
            for step in (1e-3, -2e-3):
                layer.weights[place] += step
                losses.append(softmax_cross_entropy(network.outputs(x), labels, 0.0)[0])
            layer.weights[place] += 1e-3
            assert abs((losses[0] - losses[1]) / 2e-3 - expected[place]) < 2e-3


def test_gradients_at_connections_are_their_own() -> None:
    network, (x, labels) = make(), batch()
    network.gradients(x, labels, softmax_cross_entropy, seed=1)
    for number, layer in enumerate(network.layers):
        rows, columns = layer.topology.rows(), layer.topology.indices
        found = network.gradient_at(number, rows, columns)
        assert np.allclose(found, layer.gradients, rtol=1e-5, atol=1e-6)


def test_it_learns_a_batch_by_heart() -> None:
    network, (x, labels) = make(), batch()
    for step in range(150):
        network.gradients(x, labels, softmax_cross_entropy, seed=step)
        Momentum().step(network, 0.05)
    result = network.gradients(x, labels, softmax_cross_entropy, seed=150)
    assert result.right == 6
    assert result.loss < 0.05


def test_clipping_bounds_the_step() -> None:
    network, (x, labels) = make(), batch()
    network.gradients(x, labels, softmax_cross_entropy, seed=0)
    before = [layer.weights.copy() for layer in network.layers]
    scale = Momentum(clip=1e-3).step(network, 1.0)
    moved = [np.abs(a - b.weights).max() for a, b in zip(before, network.layers, strict=True)]
    assert 0 < scale < 1
    assert 0 < max(moved) <= 1.1e-3
    assert Momentum(clip=1e9).step(network, 0.0) == 1


def test_state_comes_back_without_sharing() -> None:
    network, (x, _) = make(), batch()
    state = {name: array.copy() for name, array in network.state().items()}
    again = CsrNetwork.from_state(state, network.hidden)
    assert (again.outputs(x) == network.outputs(x)).all()
    again.layers[0].weights[:] = 0
    assert state["0.weights"].any()
    del state["0.momenta"]
    assert not CsrNetwork.from_state(state, network.hidden).layers[0].momenta.any()


def test_states_of_other_networks_are_refused() -> None:
    network = make()
    state = dict(network.state())
    with pytest.raises(TrainingError, match="the network must have 2 layers, not those numbered"):
        CsrNetwork.from_state(state, network.hidden[:1])
    with pytest.raises(TrainingError, match="weights must be 54 numbers of float32, not float64"):
        CsrNetwork.from_state(
            state | {"0.weights": state["0.weights"].astype(np.float64)}, network.hidden
        )
    with pytest.raises(TrainingError, match="connections must be sorted rows"):
        CsrNetwork.from_state(state | {"1.inputs": np.array(3)}, network.hidden)


def test_inputs_of_other_shapes_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"inputs must be float32 of shape \(12, batch\), not"):
        make().outputs(np.zeros((11, 3), np.float32))


def test_layers_must_fit_together() -> None:
    first, second, third = make().layers
    with pytest.raises(TrainingError, match="layer 1 must read the 4 outputs of layer 0, not 9"):
        CsrNetwork([third, second], [Hidden(0)])
    with pytest.raises(TrainingError, match="1 layers must have as many activations less one"):
        CsrNetwork([first], [Hidden(0)])
