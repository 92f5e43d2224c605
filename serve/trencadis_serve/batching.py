"""Requests in a bounded queue, taken from it in batches."""

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_serve.errors import BusyError, LateError, UnavailableError
from trencadis_serve.limits import Limits

__all__ = ["Request", "RequestQueue", "merged", "split"]

Array = npt.NDArray[Any]
Arrays = Sequence[Array]


@dataclass(eq=False)
class Request:
    """Samples that wait to be computed.

    Attributes
    ----------
    feed : mapping of str to array
        The model's inputs by name, checked.
    samples : int
        Sizes of axis 0; 1 for a model whose axis 0 is no batch.
    deadline : float
        `time.monotonic()` from which the request is given up.
    arrived : float
        `time.monotonic()` when it was put into the queue.
    attempts : int
        Devices that were lost while they computed it.
    result : Future
        The outputs, in the model's order.
    """

    feed: Mapping[str, Array]
    samples: int
    deadline: float
    arrived: float = field(default_factory=time.monotonic)
    attempts: int = 0
    result: "Future[list[Array]]" = field(default_factory=Future)


class RequestQueue:
    """Requests in the order in which they arrived. Threads may share it.

    Parameters
    ----------
    limits : Limits
        How many may wait, and how many samples are a batch.
    batchable : bool
        Axis 0 is a batch, so that requests may be computed together.
    """

    def __init__(self, limits: Limits, *, batchable: bool) -> None:
        self._limits, self._batchable = limits, batchable
        self._waiting: deque[Request] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, request: Request) -> None:
        """Add a request.

        Raises
        ------
        BusyError
            If too many wait.
        UnavailableError
            If the queue is closed.
        """
        with self._changed:
            if self._closed:
                raise UnavailableError("the model is being unloaded; try again later")
            if len(self._waiting) >= self._limits.queue:
                raise BusyError(
                    f"{len(self._waiting)} requests are waiting, as many as the queue takes; try "
                    "again later"
                )
            self._waiting.append(request)
            self._changed.notify()

    def put_back(self, requests: Sequence[Request]) -> None:
        """Return requests whose device was lost to the head of the queue, limits or not."""
        with self._changed:
            self._waiting.extendleft(reversed(requests))
            self._changed.notify()

    def take(self, timeout_s: float) -> list[Request]:
        """The next batch: at least one request, unless none comes in time or the queue is closed.

        A batch has what came while devices computed. Beyond that a request waits `wait_ms` for
        others, counted from its arrival.
        """
        until = time.monotonic() + timeout_s
        with self._changed:
            while not (batch := self._first()):
                left = until - time.monotonic()
                if self._closed or left <= 0:
                    return []
                self._changed.wait(left)
            if not self._batchable:
                return batch
            share_until = batch[0].arrived + self._limits.wait_ms / 1000
            while not self._fill(batch):
                left = share_until - time.monotonic()
                if self._closed or left <= 0:
                    break
                self._changed.wait(left)
            return batch

    def _first(self) -> list[Request]:
        """The oldest request that is still wanted."""
        while self._waiting:
            request = self._waiting.popleft()
            if self._wanted(request):
                return [request]
        return []

    def _fill(self, batch: list[Request]) -> bool:
        """Add what waits to a batch; true if no more fits."""
        samples = sum(request.samples for request in batch)
        while self._waiting:
            if samples + self._waiting[0].samples > self._limits.batch:
                return True
            request = self._waiting.popleft()
            if self._wanted(request):
                batch.append(request)
                samples += request.samples
        return samples >= self._limits.batch

    @staticmethod
    def _wanted(request: Request) -> bool:
        """Give up a request that is late, or whose client has gone."""
        if request.result.done():
            return False
        if time.monotonic() < request.deadline:
            return True
        try:
            request.result.set_exception(LateError("the request waited too long for a device"))
        except Exception:  # cancelled between the two lines
            return False
        return False

    def close(self) -> None:
        """Take no more; whoever waits for a batch gets what is left, then none."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def give_up(self, error: Exception) -> None:
        """Answer all that wait with an error."""
        with self._changed:
            while self._waiting:
                request = self._waiting.popleft()
                if not request.result.done():
                    request.result.set_exception(error)


def merged(batch: Sequence[Request]) -> dict[str, Array]:
    """The inputs of all requests of a batch, one after the other along axis 0."""
    if len(batch) == 1:
        return dict(batch[0].feed)
    return {
        name: np.concatenate([request.feed[name] for request in batch]) for name in batch[0].feed
    }


def split(batch: Sequence[Request], outputs: Arrays) -> list[list[Array]]:
    """The outputs of every request of a batch."""
    if len(batch) == 1:
        return [list(outputs)]
    ends = np.cumsum([request.samples for request in batch])[:-1]
    return [
        list(parts) for parts in zip(*(np.split(output, ends) for output in outputs), strict=True)
    ]
