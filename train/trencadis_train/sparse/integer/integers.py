"""A truly sparse network of integers, evaluated exactly and never made dense.

Sums are integers, and `(sum + bias) s_x s_w / s_y` is rounded half to even, as the exported ONNX
graph means it in exact arithmetic.
"""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from trencadis_train.sparse.integer.quantise import ByteGrid
from trencadis_train.sparse.topologies.topology import Topology

__all__ = ["SparseIntegerLayer", "SparseIntegers"]

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class SparseIntegerLayer:
    """A linear layer on integers.

    Attributes
    ----------
    topology : Topology
        Connections whose weights are not zero.
    weights : int8 array, shape (connections,)
        Weights, in the order of the topology.
    weight_scale : float32 array, shape (outputs,)
        Scale of every output.
    bias : int32 array, shape (outputs,)
        Bias in units of `bias_scale`.
    bias_scale : float32 array, shape (outputs,)
        Input scale times weight scale, rounded to float32 as ONNX files have it.
    slope : float
        Slope of the activation, for negative sums; 1: no activation.
    winners : int
        k of k-WTA; 0: none.
    input, output : ByteGrid
        Quantisation before and after.
    sums : ByteGrid or None
        Grid to which sums are rounded before the activation, a table from bytes to bytes.
    """

    topology: Topology
    weights: npt.NDArray[np.int8]
    weight_scale: npt.NDArray[np.float32]
    bias: npt.NDArray[np.int32]
    bias_scale: npt.NDArray[np.float32]
    slope: float
    winners: int
    input: ByteGrid
    output: ByteGrid
    sums: ByteGrid | None = None

    def __call__(self, values: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Bytes of the outputs, shape (outputs, batch), for bytes of the inputs."""
        topology = self.topology
        sums = np.zeros((topology.outputs, values.shape[1]), np.int32)
        centred = values - np.int32(self.input.zero)
        _sums(topology.pointers, topology.indices, self.weights, centred, sums)
        gain = self.weight_scale.astype(np.float64) * self.input.scale
        offset = self.bias.astype(np.float64) * self.bias_scale.astype(np.float64)
        real = sums * gain[:, None] + offset[:, None]
        if self.sums is not None:
            real = self.sums.real(self.sums.bytes_of(real))
        real = np.where(real < 0, float(np.float32(self.slope)) * real, real)
        steps = self.output.bytes_of(real).astype(np.int32)
        if self.winners and self.winners < len(steps):
            order = np.argsort(-steps, axis=0, kind="stable")[self.winners :]
            np.put_along_axis(steps, order, np.int32(self.output.zero), axis=0)
        return steps


@dataclass(frozen=True)
class SparseIntegers:
    """Layers in order, from bytes as they are to real outputs.

    Attributes
    ----------
    name : str
        Name of the network.
    input_shape : tuple of int
        Input shape of an example: (1, rows, columns).
    layers : tuple of SparseIntegerLayer
        Layers, in order.
    """

    name: str
    input_shape: tuple[int, ...]
    layers: tuple[SparseIntegerLayer, ...]

    @property
    def nonzeros(self) -> int:
        """Weights that are not zero."""
        return sum(layer.topology.connections for layer in self.layers)

    def __call__(self, inputs: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Real outputs, shape (examples, classes), of bytes, shape (examples, ...)."""
        flat = inputs.reshape(len(inputs), -1)
        found = []
        for start in range(0, len(flat), EVALUATION_BATCH):
            values = np.ascontiguousarray(flat[start : start + EVALUATION_BATCH].T, np.int32)
            for layer in self.layers:
                values = layer(values)
            found.append(self.layers[-1].output.real(values).T)
        return np.concatenate(found).astype(np.float32)


@numba.njit(cache=True, nogil=True, boundscheck=False)
def _sums(
    pointers: npt.NDArray[np.integer],
    indices: npt.NDArray[np.integer],
    weights: npt.NDArray[np.int8],
    x: npt.NDArray[np.int32],
    sums: npt.NDArray[np.int32],
) -> None:
    for i in range(len(pointers) - 1):
        out = sums[i]
        for p in range(pointers[i], pointers[i + 1]):
            w, values = np.int32(weights[p]), x[indices[p]]
            for b in range(x.shape[1]):
                out[b] += w * values[b]
