"""A sparse linear layer: connections, their weights and momenta, and one buffer of gradients."""

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from trencadis_train.errors import TrainingError
from trencadis_train.sparse.loops import kernels
from trencadis_train.sparse.topologies.topology import Columns, Keys, Topology

__all__ = ["CsrLinear", "initial_weights"]

Floats = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[Any]]


def initial_weights(topology: Topology, rng: np.random.Generator) -> Floats:
    """Uniform weights whose variance is 2 by the fan-in that an output really has (He et al.).

    The fan-in of the dense layer would make the signal vanish: a layer with one connection in
    fifty would start with weights seven times too small.
    """
    limit = np.sqrt(6 / np.maximum(topology.fan_in(), 1)).astype(np.float32)
    bounds = np.repeat(limit, topology.fan_in())
    return ((2 * rng.random(topology.connections, np.float32) - 1) * bounds).astype(np.float32)


@dataclass(frozen=True)
class CsrLinear:
    """A layer; the arrays of floats change in place, the connections by `rewired` alone.

    Attributes
    ----------
    topology : Topology
        Connections by output.
    columns : Columns
        The same by input.
    weights, momenta, gradients : float32 array, shape (connections,)
        Weights, momenta and gradients, in the order of the topology.
    bias, bias_momenta, bias_gradients : float32 array, shape (outputs,)
        Bias, bias momenta and bias gradients of the outputs.
    """

    topology: Topology
    weights: Floats
    momenta: Floats
    bias: Floats
    bias_momenta: Floats
    gradients: Floats = field(repr=False)
    bias_gradients: Floats = field(repr=False)
    columns: Columns = field(repr=False)

    @classmethod
    def of(
        cls,
        topology: Topology,
        weights: Floats,
        bias: Floats | None = None,
        momenta: Floats | None = None,
        bias_momenta: Floats | None = None,
    ) -> Self:
        """A layer with the given weights; biases and momenta are zero without any."""
        bias = np.zeros(topology.outputs, np.float32) if bias is None else bias
        return cls(
            topology,
            weights,
            np.zeros_like(weights) if momenta is None else momenta,
            bias,
            np.zeros_like(bias) if bias_momenta is None else bias_momenta,
            np.zeros_like(weights),
            np.zeros_like(bias),
            topology.columns(),
        )

    @classmethod
    def begin(cls, topology: Topology, rng: np.random.Generator) -> Self:
        """A layer with random weights."""
        return cls.of(topology, initial_weights(topology, rng))

    def forward(self, x: Floats, z: Floats) -> None:
        """Write the sums `z`, shape (outputs, batch), of inputs `x`, shape (inputs, batch)."""
        topology = self.topology
        kernels.forward(topology.pointers, topology.indices, self.weights, self.bias, x, z)

    def forward_activated(
        self, x: Floats, a: Floats, factor: Floats, slope: float, dropout: float, seed: int
    ) -> None:
        """Write the activations of the sums, and their factors; see `activations.activate`."""
        t = self.topology
        kernels.forward_activated(
            t.pointers,
            t.indices,
            self.weights,
            self.bias,
            x,
            a,
            factor,
            slope,
            dropout,
            seed & 0xFFFFFFFF,
        )

    def backward(self, x: Floats, dz: Floats) -> None:
        """Write the gradients of the weights of a network's first layer.

        Those of the biases are the sums of `dz` over the batch; who makes `dz` writes them.
        """
        c = self.columns
        kernels.backward_weights(c.pointers, c.rows, c.places, self.weights, x, dz, self.gradients)

    def backward_activated(
        self, x: Floats, dz: Floats, dx: Floats, factor: Floats, before: Self
    ) -> None:
        """Write the gradients of the weights, of the sums of the layer before, and of its biases.

        Parameters
        ----------
        x, dz, dx, factor
            As in `kernels.backward_activated`.
        before : CsrLinear
            The layer before.
        """
        c = self.columns
        kernels.backward_activated(
            c.pointers,
            c.rows,
            c.places,
            self.weights,
            x,
            dz,
            dx,
            self.gradients,
            factor,
            before.bias_gradients,
        )

    def rewired(self, keep: npt.NDArray[np.bool_], grown: Keys, weights: Floats) -> Self:
        """The layer without some connections and with others.

        Parameters
        ----------
        keep : bool array, shape (connections,)
            Which stay, with their weights and momenta.
        grown : int64 array
            Keys of new connections, ascending, none of which stays already; momenta are zero.
        weights : float32 array, shape of `grown`
            Their weights.
        """
        kept = self.topology.keys()[keep]
        keys = np.concatenate([kept, grown])
        order = np.argsort(keys, kind="stable")
        merged = [
            np.concatenate([old[keep], new])[order]
            for old, new in ((self.weights, weights), (self.momenta, np.zeros_like(weights)))
        ]
        topology = Topology.from_keys(self.topology.inputs, self.topology.outputs, keys[order])
        return type(self).of(topology, merged[0], self.bias, merged[1], self.bias_momenta)

    def without_outputs(self, keep: npt.NDArray[np.bool_]) -> Self:
        """The layer with some of its outputs only."""
        topology = self.topology
        chosen = np.repeat(keep, topology.fan_in())
        numbers = np.cumsum(keep) - 1
        keys = numbers[topology.rows()[chosen]] * topology.inputs + topology.indices[chosen]
        smaller = Topology.from_keys(topology.inputs, int(keep.sum()), keys.astype(np.int64))
        return type(self).of(
            smaller,
            self.weights[chosen],
            self.bias[keep],
            self.momenta[chosen],
            self.bias_momenta[keep],
        )

    def without_inputs(self, keep: npt.NDArray[np.bool_]) -> Self:
        """The layer with some of its inputs only."""
        topology = self.topology
        chosen = keep[topology.indices]
        numbers = np.cumsum(keep) - 1
        keys = topology.rows()[chosen] * np.int64(keep.sum()) + numbers[topology.indices[chosen]]
        smaller = Topology.from_keys(int(keep.sum()), topology.outputs, keys.astype(np.int64))
        return type(self).of(
            smaller, self.weights[chosen], self.bias, self.momenta[chosen], self.bias_momenta
        )

    def state(self) -> Arrays:
        """Arrays by name, not copied."""
        return {
            "inputs": np.array(self.topology.inputs, np.int64),
            "pointers": self.topology.pointers,
            "indices": self.topology.indices,
            "weights": self.weights,
            "momenta": self.momenta,
            "bias": self.bias,
            "bias_momenta": self.bias_momenta,
        }

    def copy(self) -> Self:
        """The same with arrays of its own."""
        return replace(
            self,
            weights=self.weights.copy(),
            momenta=self.momenta.copy(),
            bias=self.bias.copy(),
            bias_momenta=self.bias_momenta.copy(),
            gradients=self.gradients.copy(),
            bias_gradients=self.bias_gradients.copy(),
        )

    @classmethod
    def from_state(cls, state: Arrays) -> Self:
        """A layer from `state`; momenta that are missing are zero.

        Raises
        ------
        TrainingError
            If the arrays are not those of one.
        """
        inputs, outputs = int(state["inputs"]), len(state["pointers"]) - 1
        topology = Topology.checked(inputs, outputs, state["pointers"], state["indices"])
        zeros = {
            "momenta": np.zeros_like(state["weights"]),
            "bias_momenta": np.zeros_like(state["bias"]),
        }
        state = zeros | state
        for name, count in (
            ("weights", topology.connections),
            ("momenta", topology.connections),
            ("bias", outputs),
            ("bias_momenta", outputs),
        ):
            array = state[name]
            if array.shape != (count,) or array.dtype != np.float32:
                raise TrainingError(
                    f"{name} must be {count} numbers of float32, not {array.dtype} of shape "
                    f"{list(array.shape)}"
                )
        floats = [state[name].copy() for name in ("weights", "bias", "momenta", "bias_momenta")]
        return cls.of(topology, *floats)
