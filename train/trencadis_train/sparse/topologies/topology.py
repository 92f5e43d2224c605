"""Topology of a layer: the inputs of every output as compressed rows, columns by a permutation."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from trencadis_train.errors import TrainingError
from trencadis_train.memory import index_type

__all__ = ["Columns", "Indices", "Topology", "connections_of_density", "draw_keys", "draw_topology"]

Indices = npt.NDArray[np.signedinteger[Any]]
Keys = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Columns:
    """Connections by input (CSC).

    Attributes
    ----------
    pointers : integer array, shape (inputs + 1,)
        Where the connections of every input begin.
    rows : integer array, shape (connections,)
        Output of every connection.
    places : integer array, shape (connections,)
        Where its weight lies in the order of the rows.
    """

    pointers: Indices
    rows: Indices
    places: Indices


@dataclass(frozen=True)
class Topology:
    """Connections by output (CSR), inputs in ascending order.

    Attributes
    ----------
    inputs, outputs : int
        Neurons on both sides.
    pointers : integer array, shape (outputs + 1,)
        Where the connections of every output begin.
    indices : integer array, shape (connections,)
        Input of every connection.
    """

    inputs: int
    outputs: int
    pointers: Indices
    indices: Indices

    @classmethod
    def from_keys(cls, inputs: int, outputs: int, keys: Keys) -> Self:
        """Connections from sorted keys `output * inputs + input`."""
        rows, columns = np.divmod(keys, inputs)
        kind = index_type(max(inputs, outputs, len(keys)), "connections of a layer")
        pointers = np.zeros(outputs + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=outputs), out=pointers[1:])
        return cls(inputs, outputs, pointers.astype(kind), columns.astype(kind))

    @classmethod
    def checked(
        cls,
        inputs: int,
        outputs: int,
        pointers: npt.NDArray[np.integer],
        indices: npt.NDArray[np.integer],
    ) -> Self:
        """Connections from arrays of anyone.

        Raises
        ------
        TrainingError
            Unless they are connections of such a layer, sorted, none twice.
        """
        good = (
            pointers.shape == (outputs + 1,)
            and indices.ndim == 1
            and pointers[0] == 0
            and pointers[-1] == len(indices)
            and bool((np.diff(pointers) >= 0).all())
            and bool(((indices >= 0) & (indices < inputs)).all())
        )
        if good:
            rows = np.repeat(np.arange(outputs), np.diff(pointers))
            good = bool((np.diff(rows * inputs + indices.astype(np.int64)) > 0).all())
        if not good:
            raise TrainingError(
                f"connections must be sorted rows of {outputs} outputs that read {inputs} inputs, "
                f"not pointers of shape {list(pointers.shape)} and indices of {list(indices.shape)}"
            )
        kind = index_type(max(inputs, outputs, len(indices)), "connections of a layer")
        return cls(inputs, outputs, pointers.astype(kind), indices.astype(kind))

    @property
    def connections(self) -> int:
        """Number of connections."""
        return len(self.indices)

    @property
    def density(self) -> float:
        """Connections as a part of those of a dense layer."""
        return self.connections / (self.inputs * self.outputs)

    def rows(self) -> Indices:
        """Output of every connection."""
        outputs = np.arange(self.outputs, dtype=self.indices.dtype)
        return np.repeat(outputs, np.diff(self.pointers))

    def keys(self) -> Keys:
        """Ascending keys `output * inputs + input`: the same connection has the same key always."""
        return self.rows().astype(np.int64) * self.inputs + self.indices

    def columns(self) -> Columns:
        """The same connections by input."""
        places = np.argsort(self.indices, kind="stable").astype(self.indices.dtype)
        pointers = np.zeros(self.inputs + 1, np.int64)
        np.cumsum(np.bincount(self.indices, minlength=self.inputs), out=pointers[1:])
        return Columns(pointers.astype(self.pointers.dtype), self.rows()[places], places)

    def fan_in(self) -> npt.NDArray[np.int64]:
        """Connections of every output."""
        return np.diff(self.pointers).astype(np.int64)

    def fan_out(self) -> npt.NDArray[np.int64]:
        """Connections of every input."""
        return np.bincount(self.indices, minlength=self.inputs).astype(np.int64)


def connections_of_density(inputs: int, outputs: int, epsilon: float) -> int:
    """Connections of an Erdős-Rényi layer: `epsilon (inputs + outputs)`, or all.

    Source: Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse
    connectivity inspired by network science", Nature Communications 9, 2018, equation 1.

    Raises
    ------
    TrainingError
        If there would be none.
    """
    if inputs < 1 or outputs < 1:
        raise TrainingError(f"a layer must have inputs and outputs, not {inputs} and {outputs}")
    count = min(round(epsilon * (inputs + outputs)), inputs * outputs)
    if count < 1:
        raise TrainingError(
            f"epsilon must leave a connection between {inputs} inputs and {outputs} outputs, not "
            f"{epsilon}; raise it"
        )
    index_type(inputs * outputs, "places of a layer")
    return count


def draw_topology(
    inputs: int, outputs: int, connections: int, rng: np.random.Generator
) -> Topology:
    """Draw so many connections, each place as likely as any other.

    Raises
    ------
    TrainingError
        If the layer has fewer places.
    """
    if not 0 < connections <= inputs * outputs:
        raise TrainingError(
            f"connections must number 1..{inputs * outputs} between {inputs} inputs and {outputs} "
            f"outputs, not {connections}"
        )
    keys = draw_keys(inputs * outputs, connections, rng)
    return Topology.from_keys(inputs, outputs, keys)


def draw_keys(places: int, count: int, rng: np.random.Generator, taken: Keys | None = None) -> Keys:
    """Different keys below `places`, ascending, none of them taken.

    Memory is proportional to `count` and `taken`, not to `places`.

    Parameters
    ----------
    places : int
        Keys are 0..places - 1.
    count : int
        How many; at most the places that are left.
    rng : Generator
        Decides.
    taken : int64 array, optional
        Ascending keys that are not drawn.
    """
    taken = np.empty(0, np.int64) if taken is None else taken
    free = places - len(taken)
    if 2 * count > free:  # draw what is left out: less than half
        rest = np.setdiff1d(np.arange(places, dtype=np.int64), taken, assume_unique=True)
        return np.sort(rng.permutation(rest)[:count])
    found = np.empty(0, np.int64)
    while len(found) < count:
        wanted = int(1.05 * (count - len(found)) * places / (free - len(found))) + 16
        drawn = rng.integers(0, places, wanted)
        drawn = drawn[~_contains(taken, drawn)]
        found = np.union1d(found, drawn)
    if len(found) > count:
        found = np.sort(rng.permutation(found)[:count])
    return found


def _contains(keys: Keys, asked: Keys) -> npt.NDArray[np.bool_]:
    """Tell which of the asked are among ascending keys."""
    if not len(keys):
        return np.zeros(len(asked), bool)
    places = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return keys[places] == asked
