from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn import functional

from trencadis_train.errors import TrainingError
from trencadis_train.network.quantised import QuantisedNetwork
from trencadis_train.network.trace import traced_chain

POOL: Any = functional.max_pool2d  # called as it cannot be


class Functional(nn.Module):
    """Functions between layers, whose order is not that of the children."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4 * 3 * 3, 3)
        self.first = nn.Conv2d(1, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(self.first(x), 2)
        x = functional.relu(x)
        return self.last(torch.flatten(x, 1))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layer(x)


class Called(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.layer, x)


def test_functions_are_modules_in_the_order_of_forward() -> None:
    chain = traced_chain(Functional())
    assert [type(module).__name__ for _, module in chain] == [
        "Conv2d",
        "MaxPool2d",
        "ReLU",
        "Flatten",
        "Linear",
    ]
    assert chain[0][0] == "first"


def test_a_quantised_network_has_its_functional_relu() -> None:
    torch.manual_seed(1)
    model = Functional().eval()
    images = torch.rand(64, 1, 8, 8)
    quantised = QuantisedNetwork(model, input_shape=(1, 8, 8), input_scale=1 / 255)
    quantised.calibrate([images])
    found, expected = quantised.eval()(images), model(images).detach()
    assert (found - expected).abs().max() < 0.1 * expected.std()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Residual(), "must read the result before it, and nothing else|must be read once"),
        (Called(lambda layer, x: torch.tanh(layer(x))), "calls tanh, which no layer of the hardw"),
        (Called(lambda layer, x: layer(layer(x))), "module 'layer' must be used once"),
        (Called(lambda layer, x: (layer(x), 1)), "must give one tensor"),
        (Called(lambda layer, x: layer(x) if x.sum() > 0 else x), "cannot be traced"),
        (
            Called(lambda layer, x: POOL(layer(x), bogus=1)),
            "cannot be traced|arguments that none has",
        ),
    ],
)
def test_what_is_no_chain_is_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        traced_chain(model)
    assert "\n" not in str(caught.value)


def test_outputs_are_compared_while_calibrating() -> None:
    model = Functional().eval()
    quantised = QuantisedNetwork(model, input_shape=(1, 8, 8), input_scale=1 / 255)
    with torch.no_grad():
        model.last.weight.mul_(2)
    with pytest.raises(TrainingError, match="must compute what its layers do one after the other"):
        quantised.calibrate([torch.rand(16, 1, 8, 8)])
