"""Devices that share a queue of requests, and come back after they were lost."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from trencadis_format.errors import InputError
from trencadis_host import DeviceError
from trencadis_serve.batching import Request, RequestQueue, merged, split
from trencadis_serve.errors import InvalidRequestError, UnavailableError

__all__ = ["DevicePool", "DeviceState", "Opener", "Runner"]

log = logging.getLogger(__name__)

POLL_S = 0.5
"""Seconds after which an idle worker looks whether it is to end."""

REOPEN_S = (0.2, 1.0, 5.0, 15.0)
"""Seconds before each try to open a lost device again; the last is repeated."""

MAX_ATTEMPTS = 3
"""Devices that may be lost with the same request before it is given up: it may be the cause."""


class Runner(Protocol):
    """Whatever computes batches: a `Session`."""

    def run(self, output_names: None, input_feed: Any, /) -> list[npt.NDArray[Any]]:
        """Compute a batch."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


Opener = Callable[[], Runner]


@dataclass(frozen=True)
class DeviceState:
    """A device of a pool: its name, whether it can compute and why not, and what it has done."""

    name: str
    ready: bool
    reason: str
    batches: int
    samples: int
    losses: int


class DevicePool:
    """One thread per device takes batches from the queue.

    A device that fails is closed and opened again in the background; what it was computing goes
    back to the head of the queue, for any device.

    Parameters
    ----------
    openers : sequence of (name, opener)
        The devices. All are opened at once; `DeviceError` of any is raised.
    queue : RequestQueue
        Where requests come from.
    observe : callable
        Called with the samples and the seconds of each batch.
    """

    def __init__(
        self,
        openers: Sequence[tuple[str, Opener]],
        queue: RequestQueue,
        observe: Callable[[int, float], None] = lambda samples, seconds: None,
    ) -> None:
        self._queue, self._observe = queue, observe
        self._ending = threading.Event()
        self._workers: list[_Worker] = []
        opened: list[tuple[str, Opener, Runner]] = []
        try:
            for name, opener in openers:
                opened.append((name, opener, opener()))
        except BaseException:
            for _, _, runner in opened:
                runner.close()
            raise
        self._workers = [_Worker(self, name, opener, runner) for name, opener, runner in opened]
        for worker in self._workers:
            worker.thread.start()

    @property
    def states(self) -> list[DeviceState]:
        """The devices, in order."""
        return [
            DeviceState(w.name, w.runner is not None, w.reason, w.batches, w.samples, w.losses)
            for w in self._workers
        ]

    @property
    def ready(self) -> bool:
        """Some device can compute."""
        return any(worker.runner is not None for worker in self._workers)

    def close(self) -> None:
        """End the workers after the batches that are waiting, and close the devices."""
        self._queue.close()
        self._ending.set()
        for worker in self._workers:
            worker.thread.join()
        self._queue.give_up(UnavailableError("no device was left to compute the request"))

    def work(self, worker: "_Worker") -> None:
        """The life of a worker: batches, losses, openings."""
        while True:
            batch = self._queue.take(POLL_S)
            if batch:
                self._compute(worker, batch)
            elif self._ending.is_set():
                break
            if worker.runner is None and not self._reopen(worker):
                break
        if worker.runner is not None:
            worker.runner.close()

    def _compute(self, worker: "_Worker", batch: list[Request]) -> None:
        assert worker.runner is not None, "only an open device takes batches"
        begun = time.monotonic()
        try:
            results = split(batch, worker.runner.run(None, merged(batch)))
        except InputError as error:
            self._apart(worker, batch, error)
        except DeviceError as error:
            self._lost(worker, batch, str(error))
        except Exception as error:  # a bug in a device must not end its worker
            self._lost(worker, batch, f"{type(error).__name__}: {error}")
        else:
            samples = sum(request.samples for request in batch)
            worker.batches += 1
            worker.samples += samples
            self._observe(samples, time.monotonic() - begun)
            for request, result in zip(batch, results, strict=True):
                _answer(request, result)

    def _apart(self, worker: "_Worker", batch: list[Request], error: InputError) -> None:
        """Compute requests one by one, so that a bad one does not spoil its neighbours."""
        if len(batch) == 1:
            _refuse(batch[0], InvalidRequestError(str(error)))
            return
        for i, request in enumerate(batch):
            if worker.runner is None:
                self._queue.put_back(batch[i:])
                return
            self._compute(worker, [request])

    def _lost(self, worker: "_Worker", batch: list[Request], reason: str) -> None:
        worker.losses += 1
        worker.reason = reason
        runner, worker.runner = worker.runner, None
        log.warning("device %s is lost: %s", worker.name, reason)
        again = []
        for request in batch:
            request.attempts += 1
            if request.attempts < MAX_ATTEMPTS:
                again.append(request)
            else:
                _refuse(
                    request,
                    UnavailableError(f"{request.attempts} devices failed on the request: {reason}"),
                )
        self._queue.put_back(again)
        if runner is not None:
            with contextlib.suppress(Exception):  # it is lost already
                runner.close()

    def _reopen(self, worker: "_Worker") -> bool:
        """Open a lost device again, however long it takes; false if the pool is being closed."""
        tries = 0
        while not self._ending.wait(REOPEN_S[min(tries, len(REOPEN_S) - 1)]):
            tries += 1
            try:
                worker.runner = worker.opener()
            except Exception as error:  # whatever it is, the device is tried again
                if str(error) != worker.reason:
                    worker.reason = str(error)
                    log.warning("device %s cannot be opened: %s", worker.name, error)
                continue
            worker.reason = ""
            log.warning("device %s is back", worker.name)
            return True
        return False


class _Worker:
    """A device and its thread."""

    def __init__(self, pool: DevicePool, name: str, opener: Opener, runner: Runner) -> None:
        self.name, self.opener = name, opener
        self.runner: Runner | None = runner
        self.batches = self.samples = self.losses = 0
        self.reason = ""
        self.thread = threading.Thread(
            target=pool.work, args=(self,), name=f"serve {name}", daemon=True
        )


def _answer(request: Request, outputs: list[npt.NDArray[Any]]) -> None:
    """Hand over a result, unless the client has gone."""
    if not request.result.done():
        try:
            request.result.set_result(outputs)
        except Exception:  # cancelled between the two lines
            return


def _refuse(request: Request, error: Exception) -> None:
    if not request.result.done():
        try:
            request.result.set_exception(error)
        except Exception:  # cancelled between the two lines
            return
