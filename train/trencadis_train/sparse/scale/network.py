"""A network of constant fan-in layers that is trained in as little memory as it takes.

A connection is 12 bytes: input, weight, momentum. A neuron is 68: its sums of a batch, its bias.
Gradients of activations need one buffer of the widest layer; those of sums replace the sums.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from trencadis_train.errors import TrainingError
from trencadis_train.memory import aligned_empty, aligned_zeros, check_memory, index_type
from trencadis_train.sparse.loops.activations import negative_slope
from trencadis_train.sparse.loops.losses import softmax_cross_entropy
from trencadis_train.sparse.scale import kernels
from trencadis_train.sparse.scale.kernels import BATCH

__all__ = ["FanInLayer", "ScaleNetwork", "Shape"]

Floats = npt.NDArray[np.float32]
Report = Callable[[str, float], None]

OVERHEAD = 256 << 20
"""Interpreter, compiled code, a batch: what is not proportional to the network."""

ROWS_AT_ONCE = 1 << 20
"""Rows between two reports of progress."""

SAMPLES = 100_000
"""Weights from which the threshold of an evolution is estimated."""

MAX_OUTPUT_FAN_IN = 100_000


@dataclass(frozen=True)
class Shape:
    """Size of a network.

    Attributes
    ----------
    inputs, outputs : int
        Inputs and outputs of the network.
    hidden : int
        Hidden layers.
    width : int
        Neurons of a hidden layer.
    fan_in : int
        Connections of a hidden neuron.
    window : int
        Inputs around a neuron's place from which those of hidden layers are drawn; 0: all of the
        layer. Inputs of the network have no places.
    slope : float
        Slope of All-ReLU.
    """

    inputs: int
    outputs: int
    hidden: int
    width: int
    fan_in: int
    window: int = 0
    slope: float = 0.6

    def __post_init__(self) -> None:
        for name in ("inputs", "outputs", "hidden", "width", "fan_in"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} must be at least 1, not {getattr(self, name)}")
        least = min(self.inputs, self.width, self.window or self.width)
        if self.fan_in > least:
            raise TrainingError(
                f"fan_in must be at most {least}, the inputs that a neuron may read, not "
                f"{self.fan_in}"
            )
        if max(self.inputs, self.width) >= 1 << 32:
            raise TrainingError(f"width must be below {1 << 32}, not {self.width}")
        if not 0 <= self.window <= self.width:
            raise TrainingError(f"window must be in 0..{self.width}, not {self.window}")

    @property
    def layers(self) -> tuple[tuple[int, int, int], ...]:
        """Rows, inputs and fan-in of every layer."""
        first = (self.width, self.inputs, self.fan_in)
        between = ((self.width, self.width, self.fan_in),) * (self.hidden - 1)
        last = (self.outputs, self.width, min(self.width, MAX_OUTPUT_FAN_IN))
        return (first, *between, last)

    @property
    def neurons(self) -> int:
        """Inputs, hidden neurons and outputs."""
        return self.inputs + self.hidden * self.width + self.outputs

    @property
    def connections(self) -> int:
        """Number of connections of all layers."""
        return sum(rows * fan_in for rows, _, fan_in in self.layers)

    @property
    def bytes(self) -> int:
        """Memory that training takes."""
        connection = 8 + index_type(max(self.inputs, self.width), "inputs of a layer").itemsize
        neuron = 4 * BATCH + 4
        buffer = 4 * BATCH * max(self.width, self.inputs)
        return connection * self.connections + neuron * self.neurons + buffer + OVERHEAD


@dataclass(frozen=True)
class FanInLayer:
    """A layer; all arrays change in place.

    Attributes
    ----------
    inputs : int
        Neurons that it may read.
    indices : integer array, shape (rows, fan-in)
        Inputs of every row.
    weights, momenta : float32 array, shape (rows, fan-in)
        Weights and momenta of the connections.
    bias : float32 array, shape (rows,)
        Bias of the rows.
    """

    inputs: int
    indices: npt.NDArray[Any]
    weights: Floats
    momenta: Floats
    bias: Floats

    @classmethod
    def empty(cls, rows: int, inputs: int, fan_in: int) -> Self:
        """A layer whose indices and weights are not written yet."""
        kind = index_type(inputs, "inputs of a layer")
        shape = (rows, fan_in)
        return cls(
            inputs,
            aligned_empty(shape, kind),
            aligned_empty(shape),
            aligned_zeros(shape),
            np.zeros(rows, np.float32),
        )

    @property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays by name."""
        return {
            "indices": self.indices,
            "weights": self.weights,
            "momenta": self.momenta,
            "bias": self.bias,
        }

    def limit(self, slope: float) -> float:
        """Limit of initial weights: sums vary as those of the layer before (He et al.)."""
        return math.sqrt(6 / (1 + slope**2) / self.indices.shape[1])

    @property
    def sampled(self) -> bool:
        """Tell whether inputs are drawn; a row that reads most of its inputs has them in steps."""
        return self.indices.shape[1] < min(1000, self.inputs)

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Rows from and to, as many as are done between two reports."""
        rows, fan_in = self.indices.shape
        step = max(1, 10 * ROWS_AT_ONCE // fan_in)
        for first in range(0, rows, step):
            yield first, min(first + step, rows)


class ScaleNetwork:
    """A network in training.

    Parameters
    ----------
    shape : Shape
        Its size.
    seed : int
        Seed of topology and weights.
    report : callable
        Told what is done and which part of it.
    begin : bool
        Draw topology and weights; else they are to be read from a checkpoint.

    Raises
    ------
    TrainingError
        If memory does not suffice, before any is taken.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        seed: int = 0,
        report: Report = lambda what, part: None,
        begin: bool = True,
    ) -> None:
        check_memory(
            shape.bytes, f"training {shape.connections} connections of {shape.neurons} neurons"
        )
        self.shape = shape
        self.seed = seed
        self.steps = 0
        self._report = report
        self.layers = [FanInLayer.empty(*size) for size in shape.layers]
        if begin:
            self._begin()
        sizes = [shape.inputs, *(rows for rows, _, _ in shape.layers)]
        self._z = [aligned_empty((size, BATCH)) for size in sizes]
        self._dx = aligned_zeros((max(shape.width, shape.inputs), BATCH))

    def step(
        self,
        x: Floats,
        labels: npt.NDArray[np.int64],
        *,
        rate: float,
        momentum: float = 0.9,
        decay: float = 0.0,
    ) -> float:
        """Train on a batch.

        Parameters
        ----------
        x : float32 array, shape (inputs, 16)
            Inputs.
        labels : int64 array, shape (16,)
            Classes.
        rate, momentum, decay : float
            Settings of SGD; the decay is per step. The rate of a layer with a larger fan-in is
            smaller by as much, since that many weights change its sums together.

        Returns
        -------
        float
            Mean cross-entropy.

        Raises
        ------
        TrainingError
            If it is not finite; the weights are those of the step before.
        """
        if x.shape != (self.shape.inputs, BATCH) or labels.shape != (BATCH,):
            raise TrainingError(
                f"a batch must be {BATCH} examples of {self.shape.inputs} inputs, not inputs of "
                f"{list(x.shape)} and labels of {list(labels.shape)}"
            )
        self.forward(x)
        loss, gradient = softmax_cross_entropy(self._z[-1], labels, 0.0)
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} in step {self.steps + 1}; lower the learning rate"
            )
        self._z[-1][...] = gradient
        for number in reversed(range(len(self.layers))):
            layer, slope = self.layers[number], self._slope(number)
            before = self._z[number]
            dx = self._dx[: len(before)]
            kernels.backward(
                layer.indices,
                layer.weights,
                layer.momenta,
                layer.bias,
                before,
                slope,
                self._z[number + 1],
                dx,
                rate * min(1.0, self.shape.fan_in / layer.indices.shape[1]),
                momentum,
                decay,
                inputs_too=number > 0,
            )
            if number:
                kernels.to_gradients(before, dx, slope)
            self._report("backward", 1 - number / len(self.layers))
        self.steps += 1
        return loss

    def forward(self, x: Floats) -> Floats:
        """Outputs of a batch, shape (outputs, 16); valid until the next call."""
        self._z[0][...] = x
        for number, layer in enumerate(self.layers):
            kernels.forward(
                layer.indices,
                layer.weights,
                layer.bias,
                self._z[number],
                self._slope(number),
                self._z[number + 1],
            )
            self._report("forward", (number + 1) / len(self.layers))
        return self._z[-1]

    def evolve(self, fraction: float) -> int:
        """Drop about a part of every hidden layer's connections and regrow them, in place (SET).

        A connection is regrown in its own neuron, so fan-in stays. What is dropped is below a
        threshold that a sample of the weights gives.
        """
        changed = 0
        for number, layer in enumerate(self.layers[:-1]):
            rng = np.random.default_rng([self.seed, self.steps, number])
            places = rng.integers(0, layer.weights.size, SAMPLES)
            threshold = float(np.quantile(np.abs(layer.weights.reshape(-1)[places]), fraction))
            if layer.indices.shape[1] == layer.inputs:
                continue
            for first, last in layer.pieces():
                changed += kernels.regrow_rows(
                    layer.indices,
                    layer.weights,
                    layer.momenta,
                    first,
                    last,
                    layer.inputs,
                    self._window(number),
                    threshold,
                    math.sqrt(6 / layer.inputs),
                    int(rng.integers(1 << 62)),
                )
                self._report("evolving", (number + last / len(layer.bias)) / len(self.layers))
        return changed

    def _begin(self) -> None:
        for number, layer in enumerate(self.layers):
            rng = np.random.default_rng([self.seed, number])
            for first, last in layer.pieces():
                if layer.sampled:
                    kernels.begin_rows(
                        layer.indices,
                        layer.weights,
                        first,
                        last,
                        layer.inputs,
                        self._window(number),
                        layer.limit(self._slope(number)),
                        self.seed * 1_000_003 + number,
                    )
                else:
                    fan_in = layer.indices.shape[1]
                    layer.indices[first:last] = np.arange(fan_in) * layer.inputs // fan_in
                    values = rng.random((last - first, fan_in), np.float32)
                    layer.weights[first:last] = (2 * values - 1) * np.float32(
                        layer.limit(self._slope(number))
                    )
                self._report("initialising", (number + last / len(layer.bias)) / len(self.layers))

    def _window(self, number: int) -> int:
        """Window of a hidden layer's places; the inputs of the network have none."""
        return self.shape.window if 0 < number < len(self.layers) - 1 else 0

    def _slope(self, number: int) -> float:
        """Slope of what a layer reads: inputs as they are, activations of the layer before."""
        return 1.0 if number == 0 else negative_slope("all-relu", self.shape.slope, number - 1)
