"""The network of the comparison as PyTorch trains it with masks: weights times mask per step."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from trencadis_train.sparse.topologies.topology import Topology

__all__ = ["MaskedNetwork", "masked_epoch"]


class MaskedNetwork(nn.Module):
    """Dense float32 weights with masks, All-ReLU, dropout.

    Parameters
    ----------
    topologies : sequence of Topology
        Whose connections the masks keep; none: a dense network.
    widths : sequence of int
        Neurons from the inputs to the outputs.
    slopes : sequence of float
        Slopes of hidden layers, for negative sums.
    dropout : float
        Dropout of hidden layers.
    """

    def __init__(
        self,
        topologies: Sequence[Topology] | None,
        widths: Sequence[int],
        slopes: Sequence[float],
        dropout: float,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)
        )
        self._slopes, self._dropout = list(slopes), dropout
        self._masks: list[torch.Tensor] | None = None
        fan_in = list(widths[:-1])
        if topologies is not None:
            self._masks = []
            for topology in topologies:
                mask = torch.zeros(topology.outputs * topology.inputs)
                mask[torch.from_numpy(topology.keys())] = 1
                self._masks.append(mask.reshape(topology.outputs, topology.inputs))
            fan_in = [max(1, t.connections // t.outputs) for t in topologies]
        for layer, count in zip(self.layers, fan_in, strict=True):
            assert isinstance(layer, nn.Linear)
            nn.init.uniform_(layer.weight, -((6 / count) ** 0.5), (6 / count) ** 0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs of inputs, shape (batch, classes)."""
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Linear)
            weight = layer.weight
            if self._masks is not None:
                weight = weight * self._masks[number]
            x = functional.linear(x, weight, layer.bias)
            if number < len(self._slopes):
                x = functional.leaky_relu(x, self._slopes[number])
                x = functional.dropout(x, self._dropout, self.training)
        return x


def masked_epoch(
    network: MaskedNetwork,
    optimiser: torch.optim.Optimizer,
    load: Callable[[npt.NDArray[np.int64]], torch.Tensor],
    labels: torch.Tensor,
    batches: Sequence[npt.NDArray[np.int64]],
) -> float:
    """Train on batches; the mean loss.

    Parameters
    ----------
    network, optimiser
        Changed.
    load : callable
        Inputs of chosen examples, shape (batch, features).
    labels : int64 tensor
        Labels of all examples.
    batches : sequence of int64 array
        Chosen examples.
    """
    network.train()
    total = 0.0
    for chosen in batches:
        loss = functional.cross_entropy(network(load(chosen)), labels[torch.from_numpy(chosen)])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        total += loss.item()
    return total / len(batches)
