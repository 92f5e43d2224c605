"""The server of WASAP-SGD: it keeps the network, hands out batches and applies gradients.

A thread for every worker waits for its messages; gradients are applied one after the other. A
worker that is gone loses its batch, which nobody misses; what it trained by itself is handed out
anew.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_train.errors import TrainingError
from trencadis_train.memory import CACHE_LINE
from trencadis_train.sparse.layers import CsrLinear
from trencadis_train.sparse.network import CsrNetwork
from trencadis_train.sparse.optimiser import Momentum
from trencadis_train.sparse.parallel.topologies import average_layers, moved_gradients
from trencadis_train.sparse.parallel.wire import (
    LOST,
    Kind,
    Pair,
    accept,
    joined,
    open_store,
    pack_layers,
    receive_floats,
    receive_layers,
)
from trencadis_train.sparse.topologies.topology import Keys
from trencadis_train.training.score import Score

__all__ = ["Server", "WorkOf"]

POLL_S = 0.05
"""Seconds between two looks for new workers."""

KEPT_VERSIONS = 4
"""Former topologies whose gradients are still used."""


@dataclass
class WorkOf:
    """Work of an epoch, or of local training."""

    epoch: int
    batches: int
    optimiser: Momentum
    rate: Callable[[int], float]
    """Learning rate of a batch."""
    synchronous: bool = False
    local: int = 0
    """Parts of local training; 0: batches are handed out."""
    issued: int = 0
    applied: int = 0
    lost: int = 0
    loss: float = 0.0
    right: int = 0
    seen: int = 0
    waiting: list[int] = field(default_factory=list)
    """Parts of local training that nobody has."""
    found: dict[int, list[CsrLinear]] = field(default_factory=dict)
    """Results of local training, by part."""
    sums: list[npt.NDArray[np.float32]] = field(default_factory=list)
    """Gradients of a synchronous step so far."""
    summed: int = 0

    @property
    def done(self) -> bool:
        """True if nothing is left to do."""
        if self.local:
            return len(self.found) == self.local
        return self.applied + self.lost >= self.batches


class Server:
    """Keeps a network for workers that come and go.

    Parameters
    ----------
    network : CsrNetwork
        Changed by what workers send.
    signature : int64 array
        What a worker must have too; see `wire.signature`.
    address : str
        `HOST:PORT` to listen at; port 0 is any.
    timeout_s : float
        After which a silent worker counts as dead, and without any worker the training ends.
    """

    def __init__(
        self,
        network: CsrNetwork,
        signature: npt.NDArray[np.int64],
        address: str = "127.0.0.1:0",
        *,
        timeout_s: float = 120.0,
    ) -> None:
        self.network = network
        self._signature = signature
        self._host = address.rpartition(":")[0]
        self._timeout_s = timeout_s
        self._store = open_store(address, server=True, timeout_s=timeout_s)
        self._lock = threading.Condition()
        self._work: WorkOf | None = None
        self._version = 0
        self._keys: dict[int, list[Keys]] = {0: self._current_keys()}
        self._stopped = False
        self._seen = 0
        self._alive = 0
        self._deaths = 0
        self._last_sign = time.monotonic()
        self._threads: list[threading.Thread] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def address(self) -> str:
        """Address at which workers find it."""
        return f"{self._host}:{self._store.port}"

    @property
    def alive(self) -> int:
        """Workers that are connected."""
        return self._alive

    @property
    def deaths(self) -> int:
        """Workers that were lost."""
        return self._deaths

    def changed(self) -> None:
        """Say that the network has another topology."""
        with self._lock:
            self._version += 1
            self._keys[self._version] = self._current_keys()
            for old in [v for v in self._keys if v <= self._version - KEPT_VERSIONS]:
                del self._keys[old]

    def run(self, work: WorkOf, on_part: Callable[[float], None] = lambda part: None) -> Score:
        """Have work done by whoever is there.

        Raises
        ------
        TrainingError
            If no worker was there for `timeout_s`.
        """
        work.waiting = list(range(work.local))
        with self._lock:
            self._work = work
            self._last_sign = time.monotonic()
            self._lock.notify_all()
            while not work.done:
                self._lock.wait(0.2)
                on_part(min(1.0, work.applied / max(work.batches, 1)))
                if self._alive:
                    self._last_sign = time.monotonic()
                elif time.monotonic() - self._last_sign > self._timeout_s:
                    self._work = None
                    raise TrainingError(
                        f"{self.address}: no worker has been there for {self._timeout_s:.0f} s; "
                        "start one, and go on by --resume"
                    )
            self._work = None
        if work.local:
            counts = [layer.topology.connections for layer in self.network.layers]
            self.network.layers = [
                average_layers([found[number] for found in work.found.values()], count)
                for number, count in enumerate(counts)
            ]
            self.changed()
        seen = max(work.seen, 1)
        return Score(work.right / seen, work.loss / seen)

    def stop(self) -> None:
        """Send all workers home."""
        with self._lock:
            self._stopped = True
            self._lock.notify_all()
        for thread in self._threads:
            thread.join(timeout=5)

    def _longest(self) -> int:
        """Bytes of the longest message: topology, weights and momenta."""
        with self._lock:
            messages = pack_layers(self.network, momenta=True, topology=True)
        return sum(message.nbytes + CACHE_LINE for message in messages)

    def _current_keys(self) -> list[Keys]:
        return [layer.topology.keys() for layer in self.network.layers]

    def _listen(self) -> None:
        while not self._stopped:
            try:
                count = joined(self._store)
            except LOST:
                return
            while self._seen < count:
                self._seen += 1
                thread = threading.Thread(target=self._serve, args=(self._seen,), daemon=True)
                self._threads.append(thread)
                thread.start()
            time.sleep(POLL_S)

    def _serve(self, number: int) -> None:
        """Talk with a worker until it is gone or there is no more to do."""
        held: list[tuple[WorkOf, int]] = []
        counted, pair = False, None
        try:
            pair = accept(
                self._store, number, server=True, host=self._host, timeout_s=self._timeout_s
            )
            theirs = pair.receive(len(self._signature), np.int64)
            if not np.array_equal(theirs, self._signature):
                pair.tell(Kind.REFUSED, int(theirs[0] != self._signature[0]))
                return
            pair.offer_window(self._longest(), self._timeout_s)
            with self._lock:
                self._alive += 1
                counted = True
            while self._answer(pair, held):
                pass
        except (*LOST, TrainingError):
            self._deaths += 1
            self._forget(held)
        finally:
            if pair is not None:
                pair.close()
            if counted:
                with self._lock:
                    self._alive -= 1
                    self._lock.notify_all()

    def _answer(self, pair: Pair, held: list[tuple[WorkOf, int]]) -> bool:
        """Take a message and give the next piece of work; whether to go on."""
        kind, version, *numbers = pair.hear()
        if kind == Kind.GRADIENT:
            layers = self._layers_of(version)
            sizes = [n for keys, layer in layers for n in (len(keys), len(layer.bias))]
            self._apply(version, receive_floats(pair, sizes), numbers, held)
        elif kind == Kind.LAYERS:
            count = len(self.network.layers)
            layers = receive_layers(pair, None, count, momenta=True)
            self._take(layers, numbers, held)
        return self._give(pair, version, held)

    def _layers_of(self, version: int) -> list[tuple[Keys, CsrLinear]]:
        with self._lock:
            keys = self._keys.get(version)
            if keys is None:
                raise TrainingError(f"topology {version} is too old")
            return list(zip(keys, self.network.layers, strict=True))

    def _apply(
        self,
        version: int,
        gradients: list[npt.NDArray[np.float32]],
        numbers: list[int],
        held: list[tuple[WorkOf, int]],
    ) -> None:
        """Apply the gradients of a batch; those of former topologies as far as they still fit."""
        with self._lock:
            work, batch = held.pop()
            if work is not self._work:
                return  # of an epoch that ended without it
            stale = self._keys.get(version)
            if stale is None:
                work.lost += 1
                return
            if version != self._version:
                for number, keys in enumerate(self._keys[self._version]):
                    weights = gradients[2 * number]
                    gradients[2 * number] = moved_gradients(keys, stale[number], weights)
            right, seen = numbers[2] >> 32, numbers[2] & 0xFFFFFFFF
            work.right += right
            work.seen += seen
            work.loss += seen * float(np.array(numbers[3], np.int64).view(np.float64))
            if work.synchronous:
                self._sum(work, gradients, batch)
            else:
                self._step(work, gradients, batch)
                work.applied += 1
            if work.synchronous or work.done:  # nobody waits for less
                self._lock.notify_all()

    def _sum(self, work: WorkOf, gradients: list[npt.NDArray[np.float32]], batch: int) -> None:
        """A synchronous step is made when every batch that was handed out is back."""
        if work.sums:
            gradients = [a + b for a, b in zip(work.sums, gradients, strict=True)]
        work.sums = gradients
        work.summed += 1
        if work.summed + work.applied + work.lost >= work.issued:
            self._finish_sum(work, batch)

    def _finish_sum(self, work: WorkOf, batch: int) -> None:
        if work.summed:
            scale = np.float32(1 / work.summed)
            # One step in place of several: the rate grows with the batch.
            self._step(work, [g * scale for g in work.sums], batch, factor=work.summed)
            work.applied += work.summed
            work.sums, work.summed = [], 0

    def _step(
        self,
        work: WorkOf,
        gradients: list[npt.NDArray[np.float32]],
        batch: int,
        factor: float = 1.0,
    ) -> None:
        for number, layer in enumerate(self.network.layers):
            layer.gradients[:], layer.bias_gradients[:] = gradients[2 * number : 2 * number + 2]
        work.optimiser.step(self.network, work.rate(batch) * factor)

    def _take(
        self, layers: list[CsrLinear], numbers: list[int], held: list[tuple[WorkOf, int]]
    ) -> None:
        with self._lock:
            work, part = held.pop()
            if work is self._work:
                work.found[part] = layers
                right, seen = numbers[2] >> 32, numbers[2] & 0xFFFFFFFF
                work.right += right
                work.seen += seen
                work.loss += seen * float(np.array(numbers[3], np.int64).view(np.float64))
                self._lock.notify_all()

    def _give(self, pair: Pair, version: int, held: list[tuple[WorkOf, int]]) -> bool:
        """Wait for work and send it, with what the worker needs for it."""
        header, messages = self._next(version, held)
        pair.tell(*header, arrays=messages)
        return header[0] != Kind.STOP

    def _next(
        self, version: int, held: list[tuple[WorkOf, int]]
    ) -> tuple[tuple[int, ...], list[npt.NDArray[Any]]]:
        """Header and messages of the next piece of work; nothing is sent under the lock."""
        with self._lock:
            while True:
                if self._stopped:
                    return (Kind.STOP,), []
                work = self._work
                if work is not None and work.local and work.waiting:
                    part = work.waiting.pop(0)
                    held.append((work, part))
                    header = (Kind.LOCAL, self._version, work.epoch, part, work.local)
                    return header, pack_layers(self.network, momenta=True, topology=True)
                if work is not None and not work.local and self._may_issue(work):
                    batch = work.issued
                    work.issued += 1
                    held.append((work, batch))
                    new = version != self._version
                    header = (Kind.BATCH, self._version, work.epoch, batch, int(new))
                    return header, pack_layers(self.network, momenta=False, topology=new)
                if not self._lock.wait(self._timeout_s / 4):
                    return (Kind.WAIT, self._version), []  # a sign of life

    def _may_issue(self, work: WorkOf) -> bool:
        if work.issued >= work.batches:
            return False
        # In a synchronous step every worker has one batch at most.
        return not work.synchronous or work.issued - work.applied - work.lost < self._alive

    def _forget(self, held: list[tuple[WorkOf, int]]) -> None:
        """Give back what a lost worker had."""
        with self._lock:
            for work, part in held:
                if work.local:
                    work.waiting.append(part)
                else:
                    work.lost += 1
                    if work.synchronous and work.summed + work.applied + work.lost >= work.issued:
                        self._finish_sum(work, part)
            held.clear()
            self._lock.notify_all()
