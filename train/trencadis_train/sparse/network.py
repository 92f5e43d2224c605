"""A network of sparse linear layers, trained by hand-written passes on feature-major arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from trencadis_train.errors import TrainingError
from trencadis_train.memory import aligned_zeros
from trencadis_train.sparse.integer.quantise import ByteGrid, HiddenGrids, round_activations
from trencadis_train.sparse.layers import CsrLinear
from trencadis_train.sparse.loops import activations, kernels
from trencadis_train.sparse.loops.losses import LossFunction
from trencadis_train.sparse.topologies.topology import Indices, Topology

__all__ = ["CsrNetwork", "Hidden", "StepResult", "activate_hidden"]

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Rounding = Sequence[HiddenGrids]
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Hidden:
    """Function that follows a hidden layer's sums."""

    slope: float
    """Slope of the activation for negative sums."""
    winners: int = 0
    """k of k-WTA; 0: none."""
    dropout: float = 0.0
    """Part of the activations that are dropped while training."""

    @property
    def bends(self) -> bool:
        """True if negative sums count: neither ReLU, which limits sums, nor no activation."""
        return self.slope not in (0.0, 1.0)


@dataclass(frozen=True)
class StepResult:
    """Result of a batch: mean loss, and how many examples were right."""

    loss: float
    right: int


class CsrNetwork:
    """Sparse layers in order, each but the last followed by an activation.

    Parameters
    ----------
    layers : sequence of CsrLinear
        Each reads the outputs of the one before.
    hidden : sequence of Hidden
        One for each layer but the last.

    Raises
    ------
    TrainingError
        If they do not fit together.
    """

    def __init__(self, layers: Sequence[CsrLinear], hidden: Sequence[Hidden]) -> None:
        if not layers or len(hidden) != len(layers) - 1:
            raise TrainingError(
                f"{len(layers)} layers must have as many activations less one, not {len(hidden)}"
            )
        for number, (before, after) in enumerate(zip(layers, layers[1:], strict=False)):
            if before.topology.outputs != after.topology.inputs:
                raise TrainingError(
                    f"layer {number + 1} must read the {before.topology.outputs} outputs of layer "
                    f"{number}, not {after.topology.inputs} inputs"
                )
        self.layers = list(layers)
        self.hidden = list(hidden)
        self._buffers: _Buffers | None = None

    @classmethod
    def begin(
        cls,
        topologies: Sequence[Topology],
        hidden: Sequence[Hidden],
        rng: np.random.Generator,
    ) -> Self:
        """A network with random weights."""
        return cls([CsrLinear.begin(topology, rng) for topology in topologies], hidden)

    @property
    def connections(self) -> int:
        """Number of connections of all layers."""
        return sum(layer.topology.connections for layer in self.layers)

    @property
    def widths(self) -> tuple[int, ...]:
        """Neurons from the inputs to the outputs."""
        first = self.layers[0].topology.inputs
        return (first, *(layer.topology.outputs for layer in self.layers))

    def outputs(self, x: Floats, rounding: Rounding = ()) -> Floats:
        """Outputs of inputs, in evaluation: without dropout.

        Parameters
        ----------
        x : float32 array, shape (inputs, batch)
            Feature-major.
        rounding : sequence of HiddenGrids
            Rounding of the hidden layers, if they are to be rounded.

        Returns
        -------
        float32 array, shape (outputs, batch)
            A copy.
        """
        return self._forward(x, training=False, seed=0, rounding=rounding).z[-1].copy()

    def sums(self, x: Floats, number: int, rounding: Rounding = ()) -> Floats:
        """Sums of a layer, in evaluation, a copy.

        Parameters
        ----------
        x : float32 array, shape (inputs, batch)
            Feature-major.
        number : int
            Number of the layer.
        rounding : sequence of HiddenGrids
            Rounding of the layers before it, or of none.
        """
        part = type(self)(self.layers[: number + 1], self.hidden[:number])
        return part.outputs(x, list(rounding)[:number])

    def gradients(
        self,
        x: Floats,
        labels: Labels,
        loss: LossFunction,
        *,
        seed: int,
        smoothing: float = 0.0,
        rounding: Rounding = (),
    ) -> StepResult:
        """Compute the gradients of all layers for one batch, in training mode.

        Parameters
        ----------
        x : float32 array, shape (inputs, batch)
            Feature-major; must not change until the next call, which gradients of other places
            are asked for.
        labels : int64 array, shape (batch,)
            Classes.
        loss : callable
            Loss from `losses`.
        seed : int
            Seed of dropout.
        smoothing : float
            Smoothing of the labels.
        rounding : sequence of HiddenGrids
            Rounding of the hidden layers, if they are to be rounded.
        """
        buffers = self._forward(x, training=True, seed=seed, rounding=rounding)
        value, gradient = loss(buffers.z[-1], labels, smoothing)
        right = int((buffers.z[-1].argmax(axis=0) == labels).sum())
        buffers.dz[-1][...] = gradient
        np.sum(gradient, axis=1, out=self.layers[-1].bias_gradients)
        for number in reversed(range(len(self.layers))):
            layer, x_of, dz = self.layers[number], buffers.x[number], buffers.dz[number]
            if number:
                before, factor = buffers.dz[number - 1], buffers.factors[number - 1]
                layer.backward_activated(x_of, dz, before, factor, self.layers[number - 1])
            else:
                layer.backward(x_of, dz)
        return StepResult(value, right)

    def gradient_norms(self) -> list[float]:
        """Euclidean norm of the gradient of every layer's weights, as last computed."""
        return [float(np.sqrt(kernels.squared_norm(layer.gradients))) for layer in self.layers]

    def gradient_at(self, number: int, rows: Indices, columns: Indices) -> Floats:
        """Gradients of weights of a layer at any places, for the last batch."""
        assert self._buffers is not None
        out = np.empty(len(rows), np.float32)
        kernels.gradient_at(rows, columns, self._buffers.x[number], self._buffers.dz[number], out)
        return out

    def state(self) -> Arrays:
        """Arrays of all layers by name, not copied."""
        return {
            f"{number}.{name}": array
            for number, layer in enumerate(self.layers)
            for name, array in layer.state().items()
        }

    @classmethod
    def from_state(cls, state: Arrays, hidden: Sequence[Hidden]) -> Self:
        """A network from `state`; momenta that are missing are zero.

        Raises
        ------
        TrainingError
            If the arrays are not those of a network with so many hidden layers.
        """
        numbers = {name.partition(".")[0] for name in state}
        if numbers != {str(number) for number in range(len(hidden) + 1)}:
            raise TrainingError(
                f"the network must have {len(hidden) + 1} layers, not those numbered "
                f"{', '.join(sorted(numbers))}"
            )
        layers = []
        for number in range(len(hidden) + 1):
            start = f"{number}."
            own = {
                name.removeprefix(start): array
                for name, array in state.items()
                if name.startswith(start)
            }
            layers.append(CsrLinear.from_state(own))
        return cls(layers, hidden)

    def _forward(
        self, x: Floats, *, training: bool, seed: int, rounding: Rounding = ()
    ) -> "_Buffers":
        if x.ndim != 2 or x.shape[0] != self.widths[0] or x.dtype != np.float32:
            raise TrainingError(
                f"inputs must be float32 of shape ({self.widths[0]}, batch), not {x.dtype} of "
                f"shape {list(x.shape)}"
            )
        buffers = self._buffers_for(x.shape[1])
        buffers.x[0] = np.ascontiguousarray(x)
        for number, layer in enumerate(self.layers):
            if number == len(self.hidden):
                layer.forward(buffers.x[number], buffers.z[number])
                break
            hidden = self.hidden[number]
            z, factor = buffers.z[number], buffers.factors[number]
            dropout = hidden.dropout if training else 0.0
            # Dropout of different layers and steps starts at places far apart.
            start = seed * 0x9E3779B1 + number * 0x85EBCA77
            if rounding:
                layer.forward(buffers.x[number], z)
                grids = rounding[number]
                activate_hidden(z, factor, hidden, grids.sums, dropout, start)
                _round(z, factor, grids.output)
            else:
                x_of = buffers.x[number]
                layer.forward_activated(x_of, z, factor, hidden.slope, dropout, start)
                _select(z, factor, hidden)
            buffers.x[number + 1] = z
        return buffers

    def _buffers_for(self, batch: int) -> "_Buffers":
        shapes = [(width, batch) for width in self.widths[1:]]
        if self._buffers is None or [z.shape for z in self._buffers.z] != shapes:
            self._buffers = _Buffers.of(shapes)
        return self._buffers


def activate_hidden(
    z: Floats,
    factor: Floats,
    hidden: Hidden,
    sums: ByteGrid | None = None,
    dropout: float = 0.0,
    seed: int = 0,
) -> None:
    """Turn sums into activations in place; what is clipped has no gradient.

    Parameters
    ----------
    z, factor, dropout, seed
        As in `activations.activate`.
    hidden : Hidden
        What follows the sums.
    sums : ByteGrid, optional
        Grid to which sums are rounded before.
    """
    inside = None
    if sums is not None:
        inside = np.ones_like(z)
        _round(z, inside, sums)
    activations.activate(z, factor, hidden.slope, dropout, seed)
    if inside is not None:
        factor *= inside
    _select(z, factor, hidden)


def _round(z: Floats, factor: Floats, grid: ByteGrid) -> None:
    round_activations(z, factor, grid.scale, grid.zero)


def _select(z: Floats, factor: Floats, hidden: Hidden) -> None:
    if hidden.winners and hidden.winners < len(z):
        activations.k_winners(z, factor, hidden.winners)


@dataclass(frozen=True)
class _Buffers:
    """Activations and gradients of a batch.

    Sums are replaced by activations in place: what goes back needs the factors only.
    """

    x: list[Floats]
    z: list[Floats]
    factors: list[Floats]
    dz: list[Floats]

    @classmethod
    def of(cls, shapes: Sequence[tuple[int, int]]) -> Self:
        z, factors, dz = ([aligned_zeros(shape) for shape in shapes] for _ in range(3))
        return cls([z[0]] * len(shapes), z, factors[:-1], dz)
