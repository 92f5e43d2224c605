"""A compiled network behind a queue and its devices; knows no protocol and no server."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.errors import ContainerError
from trencadis_host import NodeArg, Session
from trencadis_serve.batching import Request, RequestQueue
from trencadis_serve.errors import (
    InvalidRequestError,
    LateError,
    TooLargeError,
    UnavailableError,
)
from trencadis_serve.limits import Limits
from trencadis_serve.pool import DevicePool, DeviceState
from trencadis_serve.tensors import dtype_of_node

__all__ = ["ModelSpec", "ServedModel"]

Array = npt.NDArray[Any]

MAX_SIZE = 1 << 20
"""Largest size of an open axis that is not the batch."""


@dataclass(frozen=True)
class ModelSpec:
    """A served model: a file and the devices that compute it."""

    name: str
    version: str
    path: Path
    devices: tuple[str, ...]


class ServedModel:
    """A model that is open on its devices.

    Parameters
    ----------
    spec : ModelSpec
        What to open.
    limits : Limits
        Limits of requests and batches.
    observe : callable
        Called with samples and seconds of every batch.

    Raises
    ------
    ContainerError
        If the file is not a compiled network.
    DeviceError
        If a device cannot be opened.
    """

    def __init__(
        self,
        spec: ModelSpec,
        limits: Limits,
        observe: Callable[[int, float], None] = lambda samples, seconds: None,
    ) -> None:
        self.spec, self._limits = spec, limits
        self._digest = _digest_of(spec)
        first = self._opened(spec.devices[0])
        try:
            self.inputs: tuple[NodeArg, ...] = tuple(first.get_inputs())
            self.outputs: tuple[NodeArg, ...] = tuple(first.get_outputs())
            self.facts = self._facts(first)
        except BaseException:
            first.close()
            raise
        nodes = (*self.inputs, *self.outputs)
        self.batchable = all(node.shape and isinstance(node.shape[0], str) for node in nodes)
        self.queue = RequestQueue(limits, batchable=self.batchable)
        waiting = [first]

        def opener(device: str) -> Callable[[], Session]:
            # The session that told the model's inputs is the first device's.
            return lambda: waiting.pop() if waiting else self._opened(device)

        openers = [(device, opener(device)) for device in spec.devices]
        self._pool = DevicePool(openers, self.queue, observe)

    def _opened(self, device: str) -> Session:
        """A session on a device, of the file that the model began with.

        Raises
        ------
        ContainerError
            If the file is another one meanwhile: devices of a model must not differ.
        """
        session = Session(self.spec.path, device)
        if _digest_of(self.spec) != self._digest:
            session.close()
            raise ContainerError(
                f"{self.spec.path}: was replaced after the model was loaded; load it again"
            )
        return session

    def _facts(self, session: Session) -> dict[str, str]:
        """Metadata of a network beyond its inputs and outputs, for clients."""
        facts = {"sha256": self._digest, "devices": ", ".join(self.spec.devices)}
        cycles = session.network.report.get("cycles_per_word")
        if isinstance(cycles, (int, float)):
            facts["predicted_cycles_per_inference"] = f"{cycles:g}"
        return facts

    @property
    def ready(self) -> bool:
        """Some device can compute."""
        return self._pool.ready

    @property
    def devices(self) -> list[DeviceState]:
        """Statistics of the devices."""
        return self._pool.states

    def request(self, feed: Mapping[str, Array]) -> Request:
        """Check the inputs of a request against the model.

        Raises
        ------
        RequestError
            If they are not the model's.
        """
        expected = [node.name for node in self.inputs]
        if sorted(feed) != sorted(expected):
            given = ", ".join(f"{name!r:.60}" for name in sorted(feed)[:8])
            raise InvalidRequestError(f"inputs must be {expected}, not {given or 'none'}")
        counts = {self._check(node, feed[node.name]) for node in self.inputs}
        if self.batchable:
            if len(counts) > 1:
                raise InvalidRequestError(
                    f"inputs have different batches along axis 0: {sorted(counts)}"
                )
            (samples,) = counts
            if not samples >= 1:
                raise InvalidRequestError("the batch is empty; send one sample or more")
        else:
            samples = 1
        if samples > self._limits.request_samples:
            raise TooLargeError(
                f"a request may have {self._limits.request_samples} samples, not {samples}; "
                "send several"
            )
        return Request(dict(feed), samples, time.monotonic() + self._limits.timeout_s)

    def _check(self, node: NodeArg, array: Array) -> int:
        """The size of axis 0 of an input that fits."""
        dtype = dtype_of_node(node.type)
        if array.dtype != dtype:
            raise InvalidRequestError(f"input {node.name!r}: must be {dtype}, not {array.dtype}")
        fits = len(array.shape) == len(node.shape) and all(
            size <= MAX_SIZE if isinstance(known, str) else size == known
            for size, known in zip(array.shape, node.shape, strict=True)
        )
        if not fits:
            wanted = [size if isinstance(size, int) else -1 for size in node.shape]
            raise InvalidRequestError(
                f"input {node.name!r}: its shape must be {wanted}, not {list(array.shape)}"
            )
        if dtype.kind == "f" and not np.isfinite(array).all():
            raise InvalidRequestError(f"input {node.name!r}: a value is not a finite number")
        return array.shape[0] if array.ndim else 1

    async def infer(self, feed: Mapping[str, Array]) -> list[Array]:
        """Compute a request; outputs in the model's order.

        Raises
        ------
        RequestError
            If the inputs are not the model's, or they were not computed in time.
        """
        request = self.request(feed)
        self.queue.put(request)
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                return await asyncio.wrap_future(request.result)
        except TimeoutError:
            raise LateError(
                f"the request was not computed within {self._limits.timeout_s:g} seconds"
            ) from None

    def infer_now(self, feed: Mapping[str, Array]) -> list[Array]:
        """`infer`, from a thread."""
        request = self.request(feed)
        self.queue.put(request)
        try:
            return request.result.result(self._limits.timeout_s)
        except TimeoutError:
            raise LateError(
                f"the request was not computed within {self._limits.timeout_s:g} seconds"
            ) from None

    def close(self) -> None:
        """Finish what was accepted, and close the devices."""
        self._pool.close()

    def chosen(self, names: Sequence[str] | None) -> list[int]:
        """Places of the outputs that a request names; of all, if it names none.

        Raises
        ------
        InvalidRequestError
            If there is no such output, or one is named twice.
        """
        known = [node.name for node in self.outputs]
        if not names:
            return list(range(len(known)))
        for name in names:
            if name not in known:
                raise InvalidRequestError(f"outputs must be among {known}, not {name!r:.60}")
        if len(set(names)) < len(names):
            raise InvalidRequestError(f"an output is asked for twice; name each of {known} once")
        return [known.index(name) for name in names]

    def check_ready(self) -> None:
        """Refuse requests while no device can compute.

        Raises
        ------
        UnavailableError
            If none can.
        """
        if not self.ready:
            raise UnavailableError(
                f"model {self.spec.name!r} has no working device at present; try again later"
            )


def _digest_of(spec: ModelSpec) -> str:
    """The digest of a model's file.

    Raises
    ------
    ContainerError
        If it cannot be read.
    """
    try:
        with spec.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ContainerError(f"{spec.path}: cannot be read: {error.strerror}") from error
