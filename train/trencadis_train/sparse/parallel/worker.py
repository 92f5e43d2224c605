"""A worker of WASAP-SGD: it computes gradients of the batches that the server hands out.

`python -m trencadis_train.sparse.parallel.worker RECIPE --join HOST:PORT`, on any machine that has
the data. A worker that was killed is started again by the same command; it joins anew and goes on
from the network that the server has.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.command_line import reported
from trencadis_train.data.datasets import open_data
from trencadis_train.errors import TrainingError
from trencadis_train.recipe import load_recipe
from trencadis_train.sparse.layers import CsrLinear
from trencadis_train.sparse.network import StepResult
from trencadis_train.sparse.parallel.shares import SharedTraining
from trencadis_train.sparse.parallel.wire import (
    LOST,
    Kind,
    Pair,
    accept,
    open_store,
    pack_layers,
    receive_layers,
    signature,
)

__all__ = ["main", "work"]


def work(
    training: SharedTraining, address: str, *, host: str = "127.0.0.1", timeout_s: float = 120.0
) -> int:
    """Work for a server until it has no more to do.

    Parameters
    ----------
    training : SharedTraining
        Training of the same recipe and data; its network is replaced.
    address : str
        Address of the server.
    host : str
        Name of this machine, as the server reaches it.
    timeout_s : float
        After which a silent server counts as dead.

    Returns
    -------
    int
        Batches that were computed.

    Raises
    ------
    TrainingError
        If the server is not found, is lost, or trains something else.
    """
    store = open_store(address, server=False, timeout_s=timeout_s)
    pair = None
    try:
        pair = accept(store, 0, server=False, host=host, timeout_s=timeout_s)
        ours = signature(training.recipe, str(training.fingerprint()["data"]))
        pair.send(ours)
        kind, other, *_ = pair.hear()
        if kind != Kind.REFUSED:
            pair.take_window(other, timeout_s)
        else:
            what = "speaks another version" if other else "trains another recipe or other data"
            raise TrainingError(f"{address}: the server {what}; give it and its worker the same")
        return _Work(training, pair).run()
    except LOST as error:
        raise TrainingError(
            f"{address}: the server is gone ({str(error).splitlines()[0][:100]}); start it again"
        ) from error
    finally:
        if pair is not None:
            pair.close()


class _Work:
    def __init__(self, training: SharedTraining, pair: Pair) -> None:
        self._training = training
        self._pair = pair
        training.begin()
        self._network = training.model
        self._version = -1
        self._count = len(self._network.layers)
        self._orders: dict[int, npt.NDArray[np.int64]] = {}

    def run(self) -> int:
        """Ask and answer until the server says stop."""
        computed = 0
        self._pair.tell(Kind.READY, self._version)
        while True:
            kind, version, epoch, number, more, _ = self._pair.hear()
            if kind == Kind.STOP:
                return computed
            if kind == Kind.BATCH:
                self._network.layers = self._receive(new=bool(more))
                self._version = version
                self._gradients(epoch, number)
                computed += 1
            elif kind == Kind.LOCAL:
                self._local(epoch, number, more)
                self._version = -1
            else:
                self._pair.tell(Kind.READY, self._version)

    def _receive(self, *, new: bool, momenta: bool = False) -> list[CsrLinear]:
        layers = None if new else self._network.layers
        return receive_layers(self._pair, layers, self._count, momenta=momenta)

    def _gradients(self, epoch: int, number: int) -> None:
        if epoch not in self._orders:
            self._orders = {epoch: self._training.order(epoch)}
        result, seen = self._training.batch_gradients(epoch, number, self._orders[epoch])
        layers = self._network.layers
        gradients = [g for layer in layers for g in (layer.gradients, layer.bias_gradients)]
        self._tell(Kind.GRADIENT, number, result, seen, [np.concatenate(gradients)])

    def _local(self, epoch: int, part: int, parts: int) -> None:
        """Train by oneself on a part of the data until the end, the topology evolving."""
        self._network.layers = self._receive(new=True, momenta=True)
        result, seen = self._training.train_locally(epoch, part, parts)
        arrays = pack_layers(self._network, momenta=True, topology=True)
        self._tell(Kind.LAYERS, part, result, seen, arrays)

    def _tell(
        self,
        kind: Kind,
        number: int,
        result: StepResult,
        seen: int,
        arrays: Sequence[npt.NDArray[Any]],
    ) -> None:
        loss = int(np.array(result.loss, np.float64).view(np.int64))
        numbers = (self._version, 0, number, result.right << 32 | seen, loss)
        self._pair.tell(kind, *numbers, arrays=arrays)


def main(arguments: list[str] | None = None) -> None:
    """Join a server."""
    parser = argparse.ArgumentParser(prog="worker", description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--join", required=True, help="HOST:PORT of the server")
    parser.add_argument("--host", default="127.0.0.1", help="this machine, as the server sees it")
    parser.add_argument("--data", default="", help="in place of the recipe's")
    parser.add_argument("--seed", type=int, help="in place of the recipe's")
    parser.add_argument("--set", dest="changes", action="append", default=[])
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds")
    given = parser.parse_args(arguments)
    with reported("worker"):
        changes = [*given.changes, *([] if given.seed is None else [f"seed={given.seed}"])]
        recipe = load_recipe(given.recipe, changes)
        training = SharedTraining(recipe, open_data(recipe.data, given.data), test=False)
        work(training, given.join, host=given.host, timeout_s=given.timeout)


if __name__ == "__main__":
    main()
