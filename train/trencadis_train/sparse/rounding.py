"""A network seen through the rounding of the hardware: for training on integers, and as integers.

Inputs are bytes. While training they are standardised; as integers the standardisation is part of
the first layer's weights and biases, so weights of that layer are rounded as they will be there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from trencadis_train.errors import TrainingError
from trencadis_train.sparse.inputs import Standard
from trencadis_train.sparse.integer.integers import SparseIntegerLayer, SparseIntegers
from trencadis_train.sparse.integer.quantise import (
    ByteGrid,
    HiddenGrids,
    rounded_weights,
    weight_scales,
)
from trencadis_train.sparse.layers import CsrLinear
from trencadis_train.sparse.network import CsrNetwork, activate_hidden
from trencadis_train.sparse.topologies.topology import Topology

__all__ = ["Rounding"]

Floats = npt.NDArray[np.float32]

BYTES = ByteGrid(1.0, 0)
"""Grid of inputs as they are."""


@dataclass(frozen=True)
class Rounding:
    """Grids of a network's sums, activations and outputs.

    Attributes
    ----------
    hidden : tuple of HiddenGrids
        Grids of the hidden layers.
    output : ByteGrid
        Grid of the outputs.
    standard : Standard
        Standardisation of the inputs.
    """

    hidden: tuple[HiddenGrids, ...]
    output: ByteGrid
    standard: Standard

    @classmethod
    def calibrated(cls, network: CsrNetwork, standard: Standard, x: Floats) -> Self:
        """Grids that fit what a network computes from inputs, layer after layer.

        Parameters
        ----------
        network : CsrNetwork
            Network of real numbers.
        standard : Standard
            Standardisation of the inputs.
        x : float32 array, shape (inputs, examples)
            Standardised inputs.
        """
        blank = cls((HiddenGrids(BYTES),) * len(network.hidden), BYTES, standard)
        grids: list[HiddenGrids] = []
        with blank.rounded(network):
            for number, hidden in enumerate(network.hidden):
                z = network.sums(x, number, grids)
                if hidden.bends:
                    sums = ByteGrid.fitted(z)
                    grids.append(HiddenGrids(sums.bent(hidden.slope), sums))
                else:
                    activate_hidden(z, np.empty_like(z), hidden)
                    grids.append(HiddenGrids(ByteGrid.fitted(z)))
            output = ByteGrid.covering(network.outputs(x, grids))
        return cls(tuple(grids), output, standard)

    @classmethod
    def from_array(cls, grids: npt.NDArray[np.float64], standard: Standard) -> Self:
        """Grids that `to_array` gave.

        Raises
        ------
        TrainingError
            If they are none.
        """
        if grids.ndim != 3 or grids.shape[1:] != (2, 2) or not len(grids):
            raise TrainingError(
                f"grids must be of shape (layers, 2, 2), not {list(grids.shape)}; they are of "
                "another version"
            )
        found = [
            (ByteGrid(float(own[0]), int(own[1])), ByteGrid(float(sums[0]), int(sums[1])))
            for own, sums in grids
        ]
        hidden = (HiddenGrids(own, sums if sums.scale else None) for own, sums in found[:-1])
        return cls(tuple(hidden), found[-1][0], standard)

    def to_array(self) -> npt.NDArray[np.float64]:
        """Scale and zero point of every layer's outputs and sums, shape (layers, 2, 2).

        The scale of sums is 0 where they are not rounded.
        """
        none = ByteGrid(0.0, 0)
        grids = [(own.output, own.sums or none) for own in self.hidden]
        return np.array(
            [[(g.scale, g.zero) for g in pair] for pair in [*grids, (self.output, none)]],
            np.float64,
        )

    @contextmanager
    def rounded(self, network: CsrNetwork) -> Iterator[None]:
        """Let a network compute with rounded weights for a while; gradients stay in its layers."""
        real = network.layers
        network.layers = [
            replace(layer, weights=self._rounded(number, layer))
            for number, layer in enumerate(real)
        ]
        try:
            yield
        finally:
            network.layers = real

    def integers(
        self, network: CsrNetwork, name: str, input_shape: tuple[int, ...]
    ) -> SparseIntegers:
        """The network as integers, a copy; weights that round to zero are no connections."""
        layers, source = [], BYTES
        for number, layer in enumerate(network.layers):
            topology = layer.topology
            gain = self._gain(number, topology)
            bias = layer.bias.astype(np.float64)
            scales = self._scales(number, layer, source)
            steps = rounded_weights(topology, layer.weights * gain, scales)
            if number == 0:
                real = steps.astype(np.float64) * np.repeat(scales, topology.fan_in())
                shift = real * self.standard.mean[topology.indices]
                bias -= np.bincount(topology.rows(), shift, minlength=topology.outputs)
            bias_scale = np.float32(source.scale) * scales
            kept = steps != 0
            inner = number < len(network.hidden)
            hidden = network.hidden[number] if inner else None
            layers.append(
                SparseIntegerLayer(
                    Topology.from_keys(topology.inputs, topology.outputs, topology.keys()[kept]),
                    steps[kept].astype(np.int8),
                    scales,
                    np.rint(bias / bias_scale.astype(np.float64)).astype(np.int32),
                    bias_scale,
                    1.0 if hidden is None else hidden.slope,
                    0 if hidden is None else hidden.winners,
                    source,
                    self._outputs(number),
                    self.hidden[number].sums if inner else None,
                )
            )
            source = self._outputs(number)
        return SparseIntegers(name, input_shape, tuple(layers))

    def _outputs(self, number: int) -> ByteGrid:
        """Grid of what a layer gives."""
        return self.hidden[number].output if number < len(self.hidden) else self.output

    def _rounded(self, number: int, layer: CsrLinear) -> Floats:
        topology = layer.topology
        gain = self._gain(number, topology)
        source = BYTES if number == 0 else self._outputs(number - 1)
        scales = self._scales(number, layer, source)
        steps = rounded_weights(topology, layer.weights * gain, scales)
        return (steps * np.repeat(scales, topology.fan_in()) / gain).astype(np.float32)

    def _scales(self, number: int, layer: CsrLinear, source: ByteGrid) -> Floats:
        topology = layer.topology
        weights = layer.weights * self._gain(number, topology)
        return weight_scales(topology, weights, layer.bias, source.scale)

    def _gain(self, number: int, topology: Topology) -> Any:
        """Factor by which weights grow when the standardisation goes into them."""
        return self.standard.inverse[topology.indices] if number == 0 else np.float32(1)
