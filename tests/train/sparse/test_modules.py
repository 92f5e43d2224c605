from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn import functional

from trencadis_train.errors import TrainingError
from trencadis_train.sparse.modules import CsrConv2d, CsrLinear


def _integers(module: Any) -> None:
    """Small integers: sums are exact in whatever order they are added."""
    rng = np.random.default_rng(1)
    with torch.no_grad():
        for parameter in module.parameters():
            numbers = rng.integers(-4, 5, tuple(parameter.shape)).astype(np.float32)
            parameter.copy_(torch.from_numpy(numbers))


def _dense(module: Any, shape: tuple[int, ...]) -> Any:
    weight = torch.zeros(module.topology.inputs * module.topology.outputs)
    weight[torch.from_numpy(module.topology.keys())] = module.weight.detach()
    return weight.reshape(shape).requires_grad_()


@pytest.mark.parametrize("feature_major", [False, True])
def test_a_linear_layer_is_pytorch_s(feature_major: bool) -> None:
    layer = CsrLinear(9, 7, 30, feature_major=feature_major)
    _integers(layer)
    weight = _dense(layer, (7, 9))
    x, y = (torch.randint(-4, 5, (5, 9)).float().requires_grad_() for _ in range(2))
    with torch.no_grad():
        y.copy_(x)
    gradient = torch.randint(-4, 5, (5, 7)).float()
    found = layer(x.T if feature_major else x)
    found = found.T if feature_major else found
    found.backward(gradient)
    expected = functional.linear(y, weight, _bias(layer).detach())
    expected.backward(gradient)
    assert (found == expected).all()
    assert (x.grad == y.grad).all()
    assert (layer.weight.grad == weight.grad.flatten()[layer.topology.keys()]).all()
    assert (_bias(layer).grad == gradient.sum(dim=0)).all()


def _bias(layer: CsrLinear | CsrConv2d) -> torch.Tensor:
    assert layer.bias is not None
    return layer.bias


@pytest.mark.parametrize("padding", [0, 1])
def test_a_convolution_is_pytorch_s(padding: int) -> None:
    layer = CsrConv2d(3, 4, 3, 37, padding=padding)
    _integers(layer)
    weight = _dense(layer, (4, 3, 3, 3))
    x = torch.randint(-4, 5, (2, 3, 6, 5)).float().requires_grad_()
    y = x.detach().clone().requires_grad_()
    found, expected = layer(x), functional.conv2d(y, weight, _bias(layer).detach(), padding=padding)
    gradient = torch.randint(-4, 5, tuple(expected.shape)).float()
    found.backward(gradient)
    expected.backward(gradient)
    assert (found == expected).all()
    assert (x.grad == y.grad).all()
    assert (layer.weight.grad == weight.grad.flatten()[layer.topology.keys()]).all()
    assert (_bias(layer).grad == gradient.sum(dim=(0, 2, 3))).all()


def test_a_network_of_one_s_own_learns_and_evolves() -> None:
    torch.manual_seed(1)
    first = CsrLinear(12, 32, 120, seed=1)
    model = nn.Sequential(first, nn.ReLU(), CsrLinear(32, 3, 60, seed=2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    x, labels = torch.randn(24, 12), torch.randint(0, 3, (24,))
    losses: list[float] = []
    for step in range(80):
        loss = functional.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if step == 20:
            before = first.topology.keys()
            assert first.evolve(0.3, step, optimizer) == 36
            assert len(np.intersect1d(before, first.topology.keys())) == 84
            fresh = ~np.isin(first.topology.keys(), before)
            assert not first.weight.detach().numpy()[fresh].any()
            moved = optimizer.state[first.weight]["momentum_buffer"].numpy()
            assert not moved[fresh].any()
            assert moved[~fresh].any()
    assert losses[-1] < 0.5 * losses[0]
    again = nn.Sequential(CsrLinear(12, 32, 120, seed=5), nn.ReLU(), CsrLinear(32, 3, 60, seed=6))
    again.load_state_dict(model.state_dict())
    assert (again(x) == model(x)).all()


def test_inputs_that_do_not_fit_are_one_line() -> None:
    with pytest.raises(TrainingError, match="inputs must have 9 features, not 8"):
        CsrLinear(9, 7, 30)(torch.zeros(5, 8))
    with pytest.raises(TrainingError, match="inputs must be a float32 matrix on the CPU"):
        CsrLinear(9, 7, 30)(torch.zeros(5, 9, dtype=torch.float64))
    with pytest.raises(TrainingError, match=r"inputs must be \(batch, 3, rows, columns\)"):
        CsrConv2d(3, 4, 3, 37)(torch.zeros(1, 2, 6, 6))
    with pytest.raises(TrainingError, match="maps must have 3 padded rows and columns"):
        CsrConv2d(3, 4, 3, 37)(torch.zeros(1, 3, 2, 6))
    with pytest.raises(TrainingError, match="the layer must have 31 connections, not 30"):
        CsrLinear(9, 7, 31).load_state_dict(
            {**CsrLinear(9, 7, 31).state_dict(), **_extra(CsrLinear(9, 7, 30))}
        )


def _extra(module: Any) -> dict[str, Any]:
    return {name: value for name, value in module.state_dict().items() if name == "_extra_state"}
