"""Batches of samples on their way through the cards, and the pieces that they are cut into."""

import contextlib
from collections.abc import Hashable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from trencadis_host.devices.protocol import DeviceError, Statistics
from trencadis_host.devices.xrt.unit import LoadedUnit, Record, RunBuffers

__all__ = ["Batch", "PackedBatch", "Work", "merge", "work_of"]

PackedBatch = npt.NDArray[np.uint8]


@dataclass(eq=False)
class Batch:
    """Samples of one call, until all their results are there."""

    results: PackedBatch
    pieces: int
    future: Future[tuple[PackedBatch, Statistics]] = field(default_factory=Future)
    records: list[tuple[LoadedUnit, Record]] = field(default_factory=list)
    dropped: bool = False

    def wanted(self) -> bool:
        """Tell whether results are still waited for; from then on it cannot be cancelled."""
        future = self.future
        return not future.done() and (future.running() or future.set_running_or_notify_cancel())

    def fail(self, error: DeviceError) -> None:
        """End the batch with an error, unless it has ended."""
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(error)

    def finish(self) -> None:
        """End the batch if the results of all its pieces are there."""
        if len(self.records) == self.pieces:
            with contextlib.suppress(InvalidStateError):
                self.future.set_result((self.results, merge(self.records)))


@dataclass(eq=False)
class Work:
    """A piece of a batch."""

    batch: Batch
    samples: PackedBatch
    results: PackedBatch


def work_of(buffers: RunBuffers) -> Work:
    """The piece that a compute unit's buffers hold."""
    assert isinstance(buffers.work, Work)
    return buffers.work


def merge(records: Sequence[tuple[Hashable, Record]]) -> Statistics:
    """Statistics of a batch, from those of its pieces on their compute units.

    Compute units work at the same time: cycles are those of the one that took the most.
    """
    per_unit: dict[Hashable, Record] = {}
    gaps = span = 0
    for unit, record in records:
        total = per_unit.setdefault(unit, dict.fromkeys(record, 0))
        for name, value in record.items():
            total[name] += value
        span += record["last_done"] - record["first_done"]
        gaps += record["samples"] - 1

    def most(name: str) -> int:
        return max(record[name] for record in per_unit.values())

    return Statistics(
        samples=sum(record["samples"] for record in per_unit.values()),
        cycles=most("cycles"),
        load_cycles=most("load_cycles"),
        output_interval=span / gaps / len(per_unit) if gaps else None,
        busy_cycles=most("busy"),
    )
