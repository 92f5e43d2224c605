"""Messages between server and worker: arrays of numbers over gloo, nothing pickled.

A message is a header and arrays whose sizes follow from it. Sides take turns. On one machine, once
they know one another, both go through a `Window`.

Every worker has a group of two with the server, so the death of one is noticed by its own
connection alone, and one that comes back makes a new group. Groups meet in a store that the server
keeps: a worker takes a number there, and its group is named after it. Whoever reaches the store can
take part: it belongs on a network that is trusted.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed

from trencadis_train.errors import TrainingError
from trencadis_train.recipe import Recipe
from trencadis_train.sparse.layers import CsrLinear
from trencadis_train.sparse.network import CsrNetwork
from trencadis_train.sparse.parallel.window import Offer, Window
from trencadis_train.sparse.topologies.topology import Topology

__all__ = [
    "HEADER",
    "LOST",
    "Kind",
    "Pair",
    "accept",
    "joined",
    "open_store",
    "pack_layers",
    "receive_floats",
    "receive_layers",
    "signature",
]

PROTOCOL = 3
"""Version of what is sent."""

HEADER = 6
"""Numbers of a header: kind, version, epoch, batch, and two of the kind."""

distributed: Any = torch.distributed
"""Its parts are made at run time, so that type checkers do not know them."""

LOST = (RuntimeError, distributed.DistError)
"""Exceptions that gloo raises when the other side is gone."""

JOINED = "joined"

MAX_ARRAY = 1 << 33

Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class Kind(IntEnum):
    """Purpose of a message."""

    READY = 0
    GRADIENT = 1
    LAYERS = 2
    BATCH = 3
    LOCAL = 4
    WAIT = 5
    STOP = 6
    REFUSED = 7


def signature(recipe: Recipe, data: str) -> Numbers:
    """Digest of what server and worker must share: protocol, recipe and data, as eight numbers."""
    text = f"{PROTOCOL}\n{recipe.to_dict()}\n{data}"
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.int64)
    return np.concatenate([[PROTOCOL, 0, 0, 0], digest]).astype(np.int64)


def open_store(address: str, *, server: bool, timeout_s: float) -> Any:
    """Open the store at `HOST:PORT`, as its keeper or as a guest; port 0 is any.

    Raises
    ------
    TrainingError
        If it cannot be opened.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise TrainingError(f"an address must be HOST:PORT, not {address!r}")
    try:
        return distributed.TCPStore(
            host, int(port), None, server, timedelta(seconds=timeout_s), wait_for_workers=False
        )
    except LOST as error:
        what = "listen" if server else "find the server"
        raise TrainingError(
            f"{address}: cannot {what} there ({str(error).splitlines()[0][:120]}); name another "
            "address"
        ) from error


@dataclass
class Pair:
    """A connection between server (rank 0) and a worker (rank 1)."""

    group: Any
    other: int
    window: Window | None = None
    """Memory of both, if they are on one machine."""

    def close(self) -> None:
        """Give back what both share."""
        if self.window is not None:
            self.window.close()

    def send(self, array: npt.NDArray[Any]) -> None:
        """Send an array over gloo; the other side knows its size and type."""
        if array.size:
            tensor = torch.from_numpy(np.ascontiguousarray(array))
            self.group.send([tensor], self.other, 0).wait()

    def receive(self, count: int, kind: Any) -> npt.NDArray[Any]:
        """Receive the next array, of so many numbers."""
        found = None if self.window is None else self.window.read(count, kind)
        if found is not None:
            return found
        array = np.empty(count, kind)
        if count:
            self.group.recv([torch.from_numpy(array)], self.other, 0).wait()
        return array

    def tell(self, *numbers: int, arrays: Sequence[npt.NDArray[Any]] = ()) -> None:
        """Send a header, whose missing numbers are 0, and arrays."""
        header = np.zeros(HEADER, np.int64)
        header[: len(numbers)] = numbers
        window = self.window
        if window is None:
            self.send(header)
        else:
            window.begin()
            arrays = [array for array in arrays if not window.write(array)]
            window.tell(header.tobytes())
        for array in arrays:
            self.send(array)

    def hear(self) -> list[int]:
        """Receive a header."""
        if self.window is None:
            header = self.receive(HEADER, np.int64)
        else:
            header = np.frombuffer(self.window.hear(8 * HEADER), np.int64)
        return [int(number) for number in header]

    def offer_window(self, size: int, timeout_s: float) -> None:
        """As the server, share memory with the worker if it is on this machine.

        Parameters
        ----------
        size : int
            Bytes of the longest message.
        timeout_s : float
            After which a silent worker counts as dead.
        """
        offer = Offer(size, timeout_s)
        try:
            self.tell(Kind.READY, offer.number)
            if offer.number and self.hear()[1]:
                self.window = offer.accept()
        finally:
            offer.close()

    def take_window(self, number: int, timeout_s: float) -> None:
        """As the worker, take the memory that the server offers; 0 is none."""
        if number:
            reached = Window.reach(number, timeout_s)
            self.tell(Kind.READY, int(reached is not None))
            if reached is not None:
                self.window = Window.of(reached)


def joined(store: Any) -> int:
    """Number of workers that have ever joined."""
    return int(store.add(JOINED, 0))


def accept(store: Any, number: int, *, server: bool, host: str, timeout_s: float) -> Pair:
    """Make the group of a worker.

    Parameters
    ----------
    store : TCPStore
        Store from `open_store`.
    number : int
        Number of the worker, from 1 on; 0: take one.
    server : bool
        Which side this is.
    host : str
        Address of this machine that the other reaches.
    timeout_s : float
        After which the other side counts as dead.
    """
    if not number:
        number = int(store.add(JOINED, 1))
    options = distributed.ProcessGroupGloo._Options()
    options._devices = [distributed.ProcessGroupGloo.create_device(hostname=host)]
    options._timeout = timedelta(seconds=timeout_s)
    prefix = distributed.PrefixStore(f"pair{number}", store)
    group = distributed.ProcessGroupGloo(prefix, 0 if server else 1, 2, options)
    return Pair(group, 1 if server else 0)


def pack_layers(network: CsrNetwork, *, momenta: bool, topology: bool) -> list[Numbers | Floats]:
    """A network's weights and biases as messages, with momenta and topology if they are needed.

    The other side knows from a header what comes. All numbers of a kind are one message, and
    copies, so that the network may change before they are sent.
    """
    layers = network.layers
    messages: list[Numbers | Floats] = []
    if topology:
        of = [layer.topology for layer in layers]
        messages.append(np.array([(t.inputs, t.outputs, t.connections) for t in of], np.int64))
        messages.append(np.concatenate([t.keys() for t in of]))
    floats = [array for layer in layers for array in (layer.weights, layer.bias)]
    if momenta:
        floats += [array for layer in layers for array in (layer.momenta, layer.bias_momenta)]
    return [*messages, np.concatenate(floats)]


def receive_layers(
    pair: Pair, layers: list[CsrLinear] | None, count: int, *, momenta: bool
) -> list[CsrLinear]:
    """Receive what `pack_layers` packed.

    Parameters
    ----------
    pair : Pair
        The connection.
    layers : list of CsrLinear or None
        Whose topology stays, and whose weights are replaced; none: topologies are sent.
    count : int
        Layers.
    momenta : bool
        Whether momenta come too.

    Raises
    ------
    TrainingError
        If what comes is no network.
    """
    new = _receive_topologies(pair, count) if layers is None else None
    topologies = new if layers is None else [layer.topology for layer in layers]
    assert topologies is not None
    sizes = [size for t in topologies for size in (t.connections, t.outputs)]
    floats = receive_floats(pair, sizes * (2 if momenta else 1))
    if layers is None:
        pairs = [floats[2 * n : 2 * n + 2] for n in range(len(floats) // 2)]
        return [
            CsrLinear.of(t, *(array for found in pairs[n::count] for array in found))
            for n, t in enumerate(topologies)
        ]
    for number, layer in enumerate(layers):
        layer.weights[:], layer.bias[:] = floats[2 * number : 2 * number + 2]
    return layers


def receive_floats(pair: Pair, sizes: Sequence[int]) -> list[Floats]:
    """Receive arrays that were sent as one."""
    return np.split(pair.receive(sum(sizes), np.float32), np.cumsum(sizes)[:-1])


def _receive_topologies(pair: Pair, count: int) -> list[Topology]:
    sizes = pair.receive(3 * count, np.int64).reshape(count, 3)
    if (sizes[:, :2] < 1).any() or (sizes[:, 2] < 0).any() or sizes[:, 2].sum() > MAX_ARRAY:
        raise TrainingError(f"no network has layers of such sizes: {sizes.tolist()}")
    keys = np.split(pair.receive(int(sizes[:, 2].sum()), np.int64), np.cumsum(sizes[:, 2])[:-1])
    return [
        _checked_topology(int(inputs), int(outputs), own)
        for (inputs, outputs, _), own in zip(sizes, keys, strict=True)
    ]


def _checked_topology(inputs: int, outputs: int, keys: Numbers) -> Topology:
    good = len(keys) < 2 or bool((np.diff(keys) > 0).all())
    if len(keys) and not (good and keys[0] >= 0 and keys[-1] < inputs * outputs):
        raise TrainingError("keys of connections must be ascending and inside their layer")
    return Topology.from_keys(inputs, outputs, keys)
