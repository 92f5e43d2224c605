"""Distance of two sparse topologies once their neurons are matched.

After Liu et al., "Topological insights into sparse neural networks", 2020 (arXiv 2006.14085). The
cost of pairing two neurons is the symmetric difference of their input sets over the sum of their
sizes: 0 for equal sets, 1 for sets with nothing in common. Neurons of a layer are assigned so that
the sum of costs is least, and the assignment is carried into the next layer, whose inputs they are.
Outputs of the network, and its inputs, are what they are and are not assigned.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix

from trencadis_train.errors import TrainingError
from trencadis_train.sparse.topologies.topology import Topology

__all__ = ["Distance", "topology_distance"]

MAX_NEURONS = 20_000
"""Width of a layer at most: costs are a matrix of as many rows and columns."""


@dataclass(frozen=True)
class Distance:
    """Distance of two networks.

    Attributes
    ----------
    layers : tuple of float
        Mean cost of the pairs of every layer, 0..1.
    mean : float
        Over all neurons.
    """

    layers: tuple[float, ...]
    mean: float


def topology_distance(first: Sequence[Topology], second: Sequence[Topology]) -> Distance:
    """Distance of two networks, from the input on.

    Parameters
    ----------
    first, second : sequence of Topology
        Layers of equal shapes.

    Raises
    ------
    TrainingError
        If shapes differ, or a layer is too large.
    """
    shapes = [[(t.inputs, t.outputs) for t in layers] for layers in (first, second)]
    if shapes[0] != shapes[1] or not shapes[0]:
        raise TrainingError(f"networks must have equal layers, not {shapes[0]} and {shapes[1]}")
    widest = max(outputs for _, outputs in shapes[0])
    if widest > MAX_NEURONS:
        raise TrainingError(
            f"layers must have {MAX_NEURONS} neurons at most to be matched, not {widest}"
        )
    means, sizes = [], []
    match = np.arange(first[0].inputs)
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        costs = _costs(one, other, match)
        if number == len(first) - 1:
            match = np.arange(one.outputs)
        else:
            match = linear_sum_assignment(costs)[1]
        means.append(float(costs[np.arange(one.outputs), match].mean()))
        sizes.append(one.outputs)
    return Distance(tuple(means), float(np.average(means, weights=sizes)))


def _costs(one: Topology, other: Topology, match: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Costs of all pairs; input i of the first network is input `match[i]` of the second."""
    left = _matrix(one, match[one.indices])
    right = _matrix(other, other.indices)
    common = np.asarray((left @ right.T).todense(), np.float64)
    sizes = one.fan_in()[:, None] + other.fan_in()[None, :]
    return (sizes - 2 * common) / np.maximum(sizes, 1)


def _matrix(topology: Topology, indices: npt.NDArray[np.integer]) -> csr_matrix:
    ones = np.ones(topology.connections, np.int32)
    shape = (topology.outputs, topology.inputs)
    return csr_matrix((ones, indices, topology.pointers), shape=shape)
