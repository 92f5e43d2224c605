from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from trencadis_bench.verify.verify import reference_outputs
from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_host.session import Session
from trencadis_train.errors import TrainingError
from trencadis_train.network.export import export_onnx, run_onnx
from trencadis_train.network.integers import ByteScale, IntegerLayer, IntegerNetwork
from trencadis_train.network.network import build_network
from trencadis_train.network.quantised import QuantisedNetwork
from trencadis_train.recipe import LayerRecipe

LAYERS = [
    LayerRecipe(kind="conv", units=8, window=3, ways=4, pool=2, winners=2, padding=1),
    LayerRecipe(kind="linear", units=12, ways=4, winners=3),
    LayerRecipe(kind="linear", units=4),
]


@pytest.fixture(scope="module")
def inputs() -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randint(0, 256, (64, 1, 8, 8), generator=generator).float() / 255


@pytest.fixture
def quantised(inputs: torch.Tensor) -> QuantisedNetwork:
    torch.manual_seed(1)
    model = build_network(LAYERS, (1, 8, 8), 4, seed=1)
    for _ in range(20):
        model(inputs)
    network = QuantisedNetwork(model, input_shape=(1, 8, 8), input_scale=1 / 255)
    network.calibrate(inputs.split(32))
    return network


def _by_hand(layer: IntegerLayer, keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A layer in Python's integers and NumPy's loops, as the contract has it."""
    values = keys - layer.input.zero_point
    if layer.flatten:
        values = values.reshape(len(values), -1)
    weights = layer.weights.astype(np.int64)
    if weights.ndim == 2:
        sums = values @ weights.T
    else:
        rows, columns = layer.padding
        values = np.pad(values, ((0, 0), (0, 0), (rows, rows), (columns, columns)))
        windows = np.lib.stride_tricks.sliding_window_view(values, weights.shape[2:], axis=(2, 3))[
            :, :, :: layer.stride[0], :: layer.stride[1]
        ]
        sums = np.einsum("ncyxrs,ocrs->noyx", windows, weights)
    if layer.pool is not None:
        high, wide = (size // step for size, step in zip(sums.shape[2:], layer.pool, strict=True))
        cut = sums[:, :, : high * layer.pool[0], : wide * layer.pool[1]]
        shape = (*sums.shape[:2], high, layer.pool[0], wide, layer.pool[1])
        sums = cut.reshape(shape).max(axis=(3, 5))
    shape = (1, -1) + (1,) * (sums.ndim - 2)
    gain = layer.weight_scale.astype(np.float64) * np.float64(layer.input.scale)
    shift = layer.bias.astype(np.float64) * layer.bias_scale.astype(np.float64)
    real = sums * gain.reshape(shape) + shift.reshape(shape)
    real = np.maximum(real, 0) if layer.relu else real
    out = np.rint(real / np.float64(layer.output.scale)) + layer.output.zero_point
    out = np.clip(out, 0, 255).astype(np.int64)
    if layer.k is not None:
        order = np.argsort(-out, axis=1, kind="stable")[:, : layer.k]
        keep = np.zeros(out.shape, bool)
        np.put_along_axis(keep, order, True, axis=1)
        out = np.where(keep, out, layer.output.zero_point)
    return out


def test_layers_compute_what_the_contract_says(
    quantised: QuantisedNetwork, inputs: torch.Tensor
) -> None:
    network = quantised.integers()
    keys = np.rint(inputs.numpy() * 255).astype(np.int64)
    for layer in network.layers:
        expected = _by_hand(layer, keys)
        found = layer(torch.from_numpy(keys).double()).numpy()
        assert np.array_equal(found, expected)
        assert len(np.unique(expected)) > 30
        keys = expected
    last = network.layers[-1].output
    real = ((keys - last.zero_point) * np.float64(last.scale)).astype(np.float32)
    assert np.array_equal(network(inputs).numpy(), real)


def test_evaluation_is_the_integers(quantised: QuantisedNetwork, inputs: torch.Tensor) -> None:
    quantised.eval()
    assert torch.equal(quantised(inputs), quantised.integers()(inputs))


def test_training_sees_what_the_integers_compute(
    quantised: QuantisedNetwork, inputs: torch.Tensor
) -> None:
    """But for the rounding of biases and of the output, and for ties of float32."""
    network = quantised.integers()
    quantised.train()
    step = float(network.layers[-1].output.scale)
    difference = (quantised(inputs) - network(inputs)).abs() / step
    assert difference.median() <= 0.6


def test_gradients_pass_the_rounding_and_stay_under_the_mask(
    quantised: QuantisedNetwork, inputs: torch.Tensor
) -> None:
    quantised.train()
    quantised(inputs).square().sum().backward()
    for name, parameter in quantised.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
        if name.endswith("weight"):
            mask = quantised.get_buffer(name.replace("weight", "mask"))
            assert not parameter.grad[~mask].any()


def test_masks_survive_training_steps(quantised: QuantisedNetwork, inputs: torch.Tensor) -> None:
    masks = [quantised.get_buffer(f"stages.{i}.mask").numpy().copy() for i in range(3)]
    assert [int(mask.sum()) for mask in masks] == [8 * 9 // 4, 8 * 16 * 12 // 4, 48]
    optimizer = torch.optim.SGD(quantised.parameters(), lr=0.01, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        quantised(inputs).square().sum().backward()
        optimizer.step()
    quantised.train()
    with torch.no_grad():
        trained = quantised(inputs)
        for number, mask in enumerate(masks):  # what stands outside the mask must not matter
            quantised.get_parameter(f"stages.{number}.weight")[~torch.from_numpy(mask)] = 1.0
        assert torch.equal(quantised(inputs), trained)
    for layer, mask in zip(quantised.integers().layers, masks, strict=True):
        assert not np.any((layer.weights != 0) & ~mask)
        assert np.abs(layer.weights.astype(int)).max() == 127


def test_calibration_needs_inputs(quantised: QuantisedNetwork) -> None:
    with pytest.raises(TrainingError, match="calibration needs at least one batch"):
        quantised.calibrate([])


def test_dead_layers_calibrate_too() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    network = QuantisedNetwork(model, input_shape=(1, 2, 2), input_scale=1.0)
    network.calibrate([torch.ones(3, 1, 2, 2)])
    assert torch.equal(network.eval()(torch.ones(1, 1, 2, 2)), torch.zeros(1, 2))


def test_biases_fit_32_bits() -> None:
    linear = nn.Linear(1, 1)
    with torch.no_grad():
        linear.weight.fill_(1e-9)
        linear.bias.fill_(50.0)
    network = QuantisedNetwork(nn.Sequential(linear), input_shape=(1, 1, 1), input_scale=1 / 255)
    network.calibrate([torch.ones(2, 1)])
    (layer,) = network.integers().layers
    assert layer.bias[0] * float(layer.bias_scale[0]) == pytest.approx(50, rel=1e-6)


def test_sums_beyond_float32_are_exact() -> None:
    """Of a window of 4,096 rows, in which a float32 could lose the last bits."""
    rng = np.random.default_rng(8)
    layer = IntegerLayer(
        name="0",
        weights=rng.choice(np.array([-127, 127, 126], np.int8), (3, 256, 4, 4)),
        weight_scale=np.full(3, 1e-3, np.float32),
        bias=np.zeros(3, np.int32),
        bias_scale=np.full(3, 1e-3, np.float32),
        stride=(1, 1),
        padding=(0, 0),
        flatten=False,
        relu=False,
        pool=None,
        input=ByteScale(np.float32(1), 0),
        output=ByteScale(np.float32(1), 128),
        k=None,
    )
    values = rng.integers(200, 256, (2, 256, 5, 4))
    windows = np.lib.stride_tricks.sliding_window_view(values, (4, 4), axis=(2, 3))
    expected = np.einsum("ncyxrs,ocrs->noyx", windows, layer.weights.astype(np.int64))
    assert np.abs(expected).max() > 1 << 24
    found = layer.sums(torch.from_numpy(values).float()).numpy()
    assert np.array_equal(found.astype(np.int64), expected)


def test_counts_nonzeros(quantised: QuantisedNetwork) -> None:
    network = quantised.integers()
    assert isinstance(network, IntegerNetwork)
    assert network.nonzeros == sum(int((layer.weights != 0).sum()) for layer in network.layers)


def test_layers_without_relu_keep_their_negative_sums(inputs: torch.Tensor, tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.Conv2d(4, 3, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 24),
        nn.Linear(24, 5),
    )
    network = QuantisedNetwork(model, input_shape=(1, 8, 8), input_scale=1 / 255)
    network.calibrate([inputs])
    whole = network.integers()
    assert all(0 < layer.output.zero_point < 255 for layer in whole.layers)
    with torch.no_grad():
        real = model(inputs)
    spread = float(real.max() - real.min())
    assert float((whole(inputs) - real).abs().max()) < 0.03 * spread
    # What is exported means the same, zero points after hidden layers included.
    export_onnx(whole, tmp_path / "x.onnx")
    theirs = run_onnx(tmp_path / "x.onnx", inputs.numpy())
    assert (theirs == whole(inputs).numpy()).mean() > 0.99
    compiled = compile_model(tmp_path / "x.onnx", load_board("sim"))
    compiled.save(tmp_path / "x.tcd")
    with Session(tmp_path / "x.tcd", "emulator") as session:
        (emulated,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    expected = reference_outputs(tmp_path / "x.onnx", compiled.overlay, inputs.numpy())
    assert np.array_equal(emulated, expected)
