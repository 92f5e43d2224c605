"""Sparse layers as PyTorch modules, for networks of one's own: only connections have weights.

Kernels want the batch contiguous, PyTorch wants it first: each call transposes its input and its
output. `feature_major=True` takes and gives (features, batch), so that several layers in a row
transpose nothing.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from trencadis_train.errors import TrainingError
from trencadis_train.sparse.evolve import smallest_weights
from trencadis_train.sparse.layers import initial_weights
from trencadis_train.sparse.loops import convolution_kernels, kernels
from trencadis_train.sparse.topologies.topology import Topology, draw_keys, draw_topology

__all__ = ["CsrConv2d", "CsrLinear"]


class _Connections(nn.Module):
    """Weights and biases of a topology, which may change."""

    def __init__(self, topology: Topology, seed: int, *, bias: bool) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.topology = topology
        self.weight = nn.Parameter(torch.from_numpy(initial_weights(topology, rng)))
        outputs = torch.zeros(topology.outputs)
        self.bias = nn.Parameter(outputs) if bias else None
        self.register_buffer("_zero", outputs.clone(), persistent=False)
        self._set_topology(topology)

    def _set_topology(self, topology: Topology) -> None:
        self.topology = topology
        self.columns = topology.columns()

    def get_extra_state(self) -> Any:
        """The topology, for `state_dict`."""
        return {
            "pointers": torch.from_numpy(self.topology.pointers),
            "indices": torch.from_numpy(self.topology.indices),
        }

    def set_extra_state(self, state: Any) -> None:
        """Take the topology of a `state_dict`.

        Raises
        ------
        TrainingError
            If it is of another layer.
        """
        topology = Topology.checked(
            self.topology.inputs,
            self.topology.outputs,
            state["pointers"].numpy(),
            state["indices"].numpy(),
        )
        if topology.connections != self.topology.connections:
            raise TrainingError(
                f"the layer must have {self.topology.connections} connections, not "
                f"{topology.connections}"
            )
        self._set_topology(topology)

    def evolve(
        self, fraction: float, seed: int, optimizer: torch.optim.Optimizer | None = None
    ) -> int:
        """Drop the smallest weights and grow as many at random (SET); new ones are zero.

        Parameters
        ----------
        fraction : float
            Fraction of the connections.
        seed : int
            Decides where new ones are.
        optimizer : torch.optim.Optimizer, optional
            What it remembers of the weights moves with them.

        Returns
        -------
        int
            How many were changed.
        """
        topology = self.topology
        places = topology.inputs * topology.outputs
        weights = self.weight.detach().numpy()
        dropped = smallest_weights(weights, fraction)
        dropped[np.flatnonzero(dropped)[places - topology.connections :]] = False
        count = int(dropped.sum())
        if not count:
            return 0
        grown = draw_keys(places, count, np.random.default_rng(seed), topology.keys())
        keys = np.concatenate([topology.keys()[~dropped], grown])
        order = np.argsort(keys, kind="stable")
        remembered = {} if optimizer is None else optimizer.state.get(self.weight, {})
        with torch.no_grad():
            for tensor in (self.weight, *remembered.values()):
                if isinstance(tensor, torch.Tensor) and tensor.shape == self.weight.shape:
                    kept = tensor.detach().numpy()[~dropped]
                    moved = np.concatenate([kept, np.zeros(count, np.float32)])[order]
                    tensor.copy_(torch.from_numpy(moved))
        self.weight.grad = None
        self._set_topology(Topology.from_keys(topology.inputs, topology.outputs, keys[order]))
        return count

    def _biases(self) -> torch.Tensor:
        return self._zero if self.bias is None else self.bias  # type: ignore[return-value]


class CsrLinear(_Connections):
    """A linear layer of connections; no dense weight, no dense gradient.

    Parameters
    ----------
    in_features, out_features : int
        Neurons on both sides.
    connections : int
        How many, drawn at random.
    bias : bool
        Add a number to every output.
    seed : int
        Seed of topology and weights.
    feature_major : bool
        Take and give (features, batch) in place of (batch, features).
    topology : Topology, optional
        In place of a random one.

    Raises
    ------
    TrainingError
        If there are not so many places.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        connections: int,
        *,
        bias: bool = True,
        seed: int = 0,
        feature_major: bool = False,
        topology: Topology | None = None,
    ) -> None:
        if topology is None:
            rng = np.random.default_rng([seed, 1])
            topology = draw_topology(in_features, out_features, connections, rng)
        super().__init__(topology, seed, bias=bias)
        self.feature_major = feature_major

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        if x.ndim != 2 or x.device.type != "cpu" or x.dtype != torch.float32:
            raise TrainingError(
                f"inputs must be a float32 matrix on the CPU, not {x.dtype} of shape "
                f"{list(x.shape)} on {x.device}"
            )
        major = x if self.feature_major else x.T
        if major.shape[0] != self.topology.inputs:
            raise TrainingError(
                f"inputs must have {self.topology.inputs} features, not {major.shape[0]}"
            )
        out = _Linear.apply(major.contiguous(), self.weight, self._biases(), self)
        return out if self.feature_major else out.T  # type: ignore[union-attr]


class CsrConv2d(_Connections):
    """A convolution of connections; see `convolution_kernels` for its layout.

    Parameters
    ----------
    in_channels, out_channels, window : int
        Size of the kernels.
    connections : int
        How many, drawn at random.
    padding : int
        Zeros around the maps.
    bias : bool
        Add a number to every channel.
    seed : int
        Seed of topology and weights.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        window: int,
        connections: int,
        *,
        padding: int = 0,
        bias: bool = True,
        seed: int = 0,
    ) -> None:
        rng = np.random.default_rng([seed, 1])
        topology = draw_topology(in_channels * window**2, out_channels, connections, rng)
        super().__init__(topology, seed, bias=bias)
        self.window, self.padding, self.channels = window, padding, in_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve, shape (batch, channels, rows, columns)."""
        if x.ndim != 4 or x.shape[1] != self.channels or x.device.type != "cpu":
            raise TrainingError(
                f"inputs must be (batch, {self.channels}, rows, columns) on the CPU, not "
                f"{list(x.shape)} on {x.device}"
            )
        around = (self.padding,) * 4
        padded = torch.nn.functional.pad(x, around).permute(1, 2, 3, 0).contiguous()
        rows, columns = (int(size) - self.window + 1 for size in padded.shape[1:3])
        if rows < 1 or columns < 1:
            raise TrainingError(
                f"maps must have {self.window} padded rows and columns, not "
                f"{list(padded.shape[1:3])}"
            )
        out = _Convolution.apply(padded, self.weight, self._biases(), self)
        return out.permute(3, 0, 1, 2)  # type: ignore[union-attr]

    def places(self, rows: int, columns: int) -> tuple[Any, Any]:
        """Places of connections in the first window, and where windows stand, of padded maps."""
        channel, rest = np.divmod(self.topology.indices.astype(np.int64), self.window**2)
        i, j = np.divmod(rest, self.window)
        starts = np.arange(rows - self.window + 1)[:, None] * columns
        starts = starts + np.arange(columns - self.window + 1)
        return (channel * rows + i) * columns + j, starts.ravel()


class _Linear(torch.autograd.Function):
    """`weights @ x + bias` with gradients of connections alone."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, layer: CsrLinear
    ) -> torch.Tensor:
        topology = layer.topology
        z = torch.empty(topology.outputs, x.shape[1])
        kernels.forward(
            topology.pointers,
            topology.indices,
            weight.detach().numpy(),
            bias.detach().numpy(),
            x.detach().numpy(),
            z.numpy(),
        )
        ctx.save_for_backward(x, weight)
        ctx.columns = layer.columns
        return z

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        columns, dz = ctx.columns, grads[0].contiguous()
        dx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        dw = torch.empty_like(weight)
        arrays = (weight.detach().numpy(), x.detach().numpy(), dz.numpy())
        connections = (columns.pointers, columns.rows, columns.places)
        if dx is None:
            kernels.backward_weights(*connections, *arrays, dw.numpy())
        else:
            kernels.backward(*connections, *arrays, dx.numpy(), dw.numpy())
        bias = dz.sum(dim=1) if ctx.needs_input_grad[2] else None
        return dx, dw, bias, None


class _Convolution(torch.autograd.Function):
    """A convolution of maps (channels, rows, columns, batch)."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, layer: CsrConv2d
    ) -> torch.Tensor:
        _, rows, columns, batch = x.shape
        places, starts = layer.places(rows, columns)
        outputs = layer.topology.outputs
        size = (outputs, rows - layer.window + 1, columns - layer.window + 1, batch)
        z = torch.empty(size)
        convolution_kernels.convolve_forward(
            layer.topology.pointers,
            places,
            weight.detach().numpy(),
            bias.detach().numpy(),
            x.detach().numpy().reshape(-1, batch),
            starts,
            z.numpy().reshape(-1, batch),
        )
        ctx.save_for_backward(x, weight)
        ctx.places, ctx.starts, ctx.pointers = places, starts, layer.topology.pointers
        return z

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        dz = grads[0].contiguous()
        inputs_too = ctx.needs_input_grad[0]
        batch = x.shape[3]
        dx = torch.zeros_like(x) if inputs_too else x
        dw = torch.zeros_like(weight)
        convolution_kernels.convolve_backward(
            ctx.pointers,
            ctx.places,
            weight.detach().numpy(),
            x.detach().numpy().reshape(-1, batch),
            ctx.starts,
            dz.numpy().reshape(-1, batch),
            dx.detach().numpy().reshape(-1, batch),
            dw.numpy(),
            inputs_too=inputs_too,
        )
        bias = dz.sum(dim=(1, 2, 3)) if ctx.needs_input_grad[2] else None
        return (dx if inputs_too else None), dw, bias, None
