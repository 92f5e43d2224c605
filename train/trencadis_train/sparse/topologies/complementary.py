"""Complementary topologies: consecutive outputs of which no two read the same input.

So what is trained packs into full rows of the hardware, with nothing left over.
"""

import numpy as np
import numpy.typing as npt

from trencadis_train.errors import TrainingError
from trencadis_train.sparse.topologies.topology import Keys, Topology

__all__ = ["draw_complementary", "regrow_complementary"]


def draw_complementary(
    inputs: int, outputs: int, ways: int, fan_in: int, rng: np.random.Generator
) -> Topology:
    """Sets of `ways` outputs, each with `fan_in` inputs of its own.

    Raises
    ------
    TrainingError
        If a set has not so many inputs, or outputs do not make whole sets.
    """
    if outputs % ways or not 0 < fan_in * ways <= inputs:
        raise TrainingError(
            f"{outputs} outputs must make sets of {ways} with {fan_in} of {inputs} inputs each; "
            f"make nonzeros at most {inputs // ways}, and units a multiple of {ways}"
        )
    indices = np.empty((outputs, fan_in), np.int64)
    for first in range(0, outputs, ways):
        chosen = rng.choice(inputs, ways * fan_in, replace=False)
        indices[first : first + ways] = np.sort(chosen.reshape(ways, fan_in), axis=1)
    keys = np.arange(outputs, dtype=np.int64)[:, None] * inputs + indices
    return Topology.from_keys(inputs, outputs, keys.ravel())


def regrow_complementary(
    topology: Topology, dropped: npt.NDArray[np.bool_], ways: int, rng: np.random.Generator
) -> Keys:
    """New connections in the outputs that lost some, at inputs that their sets do not read yet.

    A dropped place counts as taken, so that something changes; where a set has too few other
    inputs, dropped places serve as well, and outputs of the set exchange them.

    Parameters
    ----------
    topology : Topology
        Complementary.
    dropped : bool array, shape (connections,)
        Which connections go.
    ways : int
        Outputs of a set.
    rng : Generator
        Decides.

    Returns
    -------
    int64 array
        Ascending keys, as many as were dropped.
    """
    rows = topology.rows()
    grown = []
    sets = rows // ways
    for number in np.unique(sets[dropped]):
        own = slice(*np.searchsorted(sets, [number, number + 1]))
        gone = dropped[own]
        lost, columns = rows[own][gone], topology.indices[own]
        taken = np.zeros(topology.inputs, bool)
        taken[columns] = True
        fresh = rng.permutation(np.flatnonzero(~taken))[: len(lost)]
        if len(fresh) < len(lost):
            back = rng.permutation(columns[gone])[: len(lost) - len(fresh)]
            fresh = np.concatenate([fresh, back])
        grown.append(rng.permutation(lost).astype(np.int64) * topology.inputs + fresh)
    return np.sort(np.concatenate(grown))
