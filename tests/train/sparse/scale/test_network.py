from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trencadis_train.errors import TrainingError
from trencadis_train.sparse.loops.activations import negative_slope
from trencadis_train.sparse.loops.losses import softmax_cross_entropy
from trencadis_train.sparse.scale.command import generated, measure
from trencadis_train.sparse.scale.network import ScaleNetwork, Shape
from trencadis_train.sparse.scale.storage import read_network, write_network

SHAPE = Shape(inputs=20, outputs=4, hidden=3, width=50, fan_in=6)


def dense(network: ScaleNetwork) -> list[np.ndarray]:
    found = []
    for layer in network.layers:
        matrix = np.zeros((len(layer.bias), layer.inputs), np.float64)
        rows = np.arange(len(layer.bias))[:, None]
        matrix[rows, layer.indices] = layer.weights
        found.append(matrix)
    return found


def test_a_step_is_that_of_a_dense_network() -> None:
    network = ScaleNetwork(SHAPE, seed=1)
    x, labels = generated(SHAPE, 1, 0)
    matrices = dense(network)
    slopes = [negative_slope("all-relu", 0.6, number) for number in range(3)]
    inputs, sums = [x.astype(np.float64)], []
    for number, matrix in enumerate(matrices):
        sums.append(matrix @ inputs[-1])
        if number < 3:
            inputs.append(np.where(sums[-1] > 0, 1, slopes[number]) * sums[-1])
    loss, gradient = softmax_cross_entropy(sums[-1].astype(np.float32), labels, 0.0)
    assert np.allclose(network.forward(x), sums[-1], rtol=1e-4, atol=1e-5)
    expected = []
    gradient = gradient.astype(np.float64)
    for number in reversed(range(4)):
        scale = min(1.0, 6 / network.layers[number].indices.shape[1])
        expected.append(-0.1 * scale * (gradient @ inputs[number].T))
        if number:
            slope = np.where(sums[number - 1] > 0, 1, slopes[number - 1])
            gradient = (matrices[number].T @ gradient) * slope
    before = [layer.weights.copy() for layer in network.layers]
    assert network.step(x, labels, rate=0.1) == pytest.approx(loss, rel=1e-5)
    for layer, old, change in zip(network.layers, before, reversed(expected), strict=True):
        rows = np.arange(len(layer.bias))[:, None]
        assert np.allclose(layer.weights - old, change[rows, layer.indices], rtol=1e-3, atol=1e-5)
        assert np.allclose(layer.momenta, layer.weights - old, atol=1e-6)


@pytest.mark.parametrize("window", [0, 12, 30])
def test_inputs_of_a_neuron_are_different_and_stay_so(window: int) -> None:
    shape = Shape(20, 4, 3, 50, 6, window)
    network = ScaleNetwork(shape, seed=2)
    for _ in range(3):
        for number, layer in enumerate(network.layers):
            assert all(len(set(row)) == len(row) for row in layer.indices.tolist())
            if window and 0 < number < 3:
                place = np.arange(50)[:, None]
                away = (layer.indices - place + window // 2) % 50
                assert away.max() < window
        before = [layer.indices.copy() for layer in network.layers]
        changed = network.evolve(0.3)
        assert 0.2 < changed / (3 * 50 * 6) < 0.4
        moved = [(a != b.indices).sum() for a, b in zip(before, network.layers, strict=True)]
        assert all(moved[:3])
        assert not moved[3]


def test_it_learns_generated_samples() -> None:
    found = measure(Shape(64, 4, 2, 400, 8), 40, rate=0.03, quiet=True)
    losses = found["losses"]
    assert np.mean(losses[-8:]) < 0.7 * np.mean(losses[:8])
    assert found["neurons"] == 64 + 800 + 4
    assert found["connections"] == 2 * 400 * 8 + 4 * 400
    assert found["bytes_per_connection"] == round(found["peak_bytes"] / found["connections"], 3)


def test_a_checkpoint_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole, half = ScaleNetwork(SHAPE, seed=1), ScaleNetwork(SHAPE, seed=1)
    for step in range(6):
        if step == 3:
            half.evolve(0.3)
            whole.evolve(0.3)
            write_network(half, tmp_path / "a.safetensors")
            half = read_network(tmp_path / "a.safetensors")
            assert half.steps == 3
        for network in (whole, half):
            network.step(*generated(SHAPE, 1, step), rate=0.05)
    for one, other in zip(whole.layers, half.layers, strict=True):
        assert all((one.arrays[name] == other.arrays[name]).all() for name in one.arrays)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_checkpoints_are_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    network = ScaleNetwork(SHAPE, seed=1)
    write_network(network, tmp_path / "a.safetensors")
    arrays = safetensors.load_file(tmp_path / "a.safetensors")
    assert (arrays["2.weights"] == network.layers[2].weights).all()
    assert arrays["0.indices"].dtype == np.int32


@pytest.mark.parametrize("change", ["short", "long", "header", "places", "huge", "missing"])
def test_damaged_checkpoints_are_one_line(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.safetensors"
    network = ScaleNetwork(SHAPE, seed=1)
    if change == "places":
        network.layers[1].indices[3, 2] = 50
    write_network(network, path)
    data = path.read_bytes()
    if change == "short":
        data = data[:-1]
    elif change == "long":
        data += b"0"
    elif change == "header":
        data = data.replace(b'"F32"', b'"F16"', 1)
    elif change == "huge":
        data = data.replace(b'\\"hidden\\": 3', b'\\"hidden\\": 9')
    path.write_bytes(data)
    if change == "missing":
        path.unlink()
    with pytest.raises(TrainingError, match=r"not a usable checkpoint|there is no such") as caught:
        read_network(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((20, 4, 3, 50, 21), "fan_in must be at most 20, the inputs that a neuron may read"),
        ((20, 4, 3, 50, 6, 5), "fan_in must be at most 5"),
        ((20, 4, 3, 50, 6, 51), r"window must be in 0\.\.50, not 51"),
        ((20, 4, 0, 50, 6), "hidden must be at least 1, not 0"),
        ((20, 4, 1, 1 << 32, 6), "width must be below 4294967296"),
    ],
)
def test_impossible_shapes(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        Shape(*arguments)


def test_memory_is_counted_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numpy.empty", None)
    with pytest.raises(TrainingError, match=r"training \d+ connections of .* GiB are available"):
        ScaleNetwork(Shape(784, 10, 10_000, 1_000_000, 10))


def test_ten_million_neurons_fit_their_promise() -> None:
    shape = Shape(784, 10, 40, 250_000, 10)
    assert shape.neurons == 10_000_794
    assert shape.connections == 101_000_000
    assert shape.bytes <= 22 * shape.connections


def test_a_loss_that_is_no_number_ends_it() -> None:
    network = ScaleNetwork(SHAPE, seed=1)
    network.layers[0].weights[:] = np.inf
    with pytest.raises(TrainingError, match="the loss became nan in step 1; lower the learning"):
        network.step(*generated(SHAPE, 1, 0), rate=0.1)
    with pytest.raises(TrainingError, match="a batch must be 16 examples of 20 inputs, not"):
        network.step(np.zeros((19, 16), np.float32), np.zeros(16, np.int64), rate=0.1)


def test_what_cannot_end_well_is_not_begun(tmp_path: Path) -> None:
    for steps, rate in ((0, 0.1), (-1, 0.1), (1, 0.0), (1, float("nan"))):
        with pytest.raises(TrainingError, match="steps and rate must be positive, not"):
            measure(SHAPE, steps, rate=rate)
    path = tmp_path / "none" / "a.safetensors"
    with pytest.raises(TrainingError, match="cannot be written; name a file in a folder of yours"):
        measure(SHAPE, 1, checkpoint=path)
    with pytest.raises(TrainingError, match="every must be 0 or more steps between checkpoints"):
        measure(SHAPE, 1, every=1)


def test_a_training_that_is_interrupted_goes_on_from_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure(SHAPE, 7, checkpoint=tmp_path / "whole.safetensors", quiet=True)
    path = tmp_path / "parts.safetensors"
    begin = ScaleNetwork.step

    def interrupted(self: ScaleNetwork, *batch: Any, rate: float) -> float:
        if self.steps == 5:
            raise KeyboardInterrupt
        return begin(self, *batch, rate=rate)

    with monkeypatch.context() as patch:
        patch.setattr(ScaleNetwork, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            measure(SHAPE, 7, checkpoint=path, every=2, quiet=True)
    parts = measure(SHAPE, 7, checkpoint=path, every=2, resume=True, quiet=True)
    assert parts["losses"] == whole["losses"][4:]
    assert path.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
