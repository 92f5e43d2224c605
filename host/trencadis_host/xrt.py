"""Cards, through XRT: any number of them, with any number of compute units each.

`python -m trencadis_host.xrt` lists them.

A batch is cut into pieces that are handed out to compute units. Every compute unit has two sets of
buffers, so the next piece's words are on the card before the last piece is done. One thread talks
to XRT; `submit` only puts words into its queue. If a call of XRT's does not come back, the device
is given up: nothing can be done about that thread.
"""

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Hashable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trencadis_host.device import DeviceError, DeviceOptions, Statistics, raise_for_status
from trencadis_host.door import Door, RunState
from trencadis_host.faults import (
    DeviceAbortedError,
    DeviceLostError,
    DeviceNameError,
    DeviceNotFoundError,
    DeviceTimeoutError,
    WrongBitstreamError,
    WrongImageError,
    XrtMissingError,
)
from trencadis_host.xclbin import Xclbin, XclbinError
from trencadis_host.xrt_capi import open_library
from trencadis_host.xrt_card import LoadedCard
from trencadis_host.xrt_pyxrt import open_binding
from trencadis_host.xrt_setup import check_setup
from trencadis_host.xrt_unit import KERNEL_NAME, LoadedUnit, Record, Slot
from trencadis_host.xrt_watch import Watch
from trencadis_hw import abi
from trencadis_hw.closing import Closing
from trencadis_hw.container import Overlay

__all__ = ["XrtDevice", "merge", "open_device", "open_door", "parse_numbers"]

Words = npt.NDArray[np.uint8]

PIECE_BYTES = 1 << 20
"""Most bytes of words, in or out, that are computed in one run."""

PAUSES_S = (20e-6, 500e-6)
"""Pause between two looks at runs: at first, and at most, as it doubles while nothing ends.

XRT's own waits are not used. With a time limit they differ from version to version; the emulation
driver's do not come back before the end."""

GRACE_S = 5.0
"""Seconds in which a kernel must end a run that it was told to abort."""

STUCK_S = 120.0
"""Seconds in which a call of XRT's must come back; starting a simulator takes the longest."""

CLOSE_S = 20.0
"""Seconds that closing waits for XRT."""


@dataclass(eq=False)
class Batch:
    """Words of one call, until all their results are there."""

    results: Words
    pieces: int
    future: Future[tuple[Words, Statistics]] = field(default_factory=Future)
    records: list[tuple[LoadedUnit, Record]] = field(default_factory=list)
    dropped: bool = False


@dataclass(eq=False)
class Work:
    """A piece of a batch."""

    batch: Batch
    words: Words
    results: Words


class XrtDevice(Closing):
    """A network on cards.

    Parameters
    ----------
    name : str
        What the device is called in messages.
    door : Door
        The way into XRT.
    numbers : sequence of int
        Cards to use.
    path : Path
        The xclbin.
    overlay : Overlay
        The network.
    timeout_s : float
        Seconds that a run may take on a compute unit.

    Raises
    ------
    DeviceError
        If cards or xclbin cannot be used; its subclasses in `faults` say why.
    """

    def __init__(
        self,
        name: str,
        door: Door,
        numbers: Sequence[int],
        path: Path,
        overlay: Overlay,
        timeout_s: float,
    ) -> None:
        self._name = name
        self._overlay = overlay
        self._timeout_s = timeout_s
        try:
            xclbin = Xclbin.load(path)
        except XclbinError as error:
            raise WrongBitstreamError(f"device {name}: {error}") from error
        _check_xclbin(name, xclbin, overlay)
        # The bitstream is XRT's business, and large.
        xclbin = replace(xclbin, sections={})
        self._cards = [LoadedCard(name, door, number, xclbin, overlay) for number in numbers]
        self._units = len(numbers) * sum(unit.kernel == KERNEL_NAME for unit in xclbin.units)
        self._queue: deque[Work] = deque()
        self._batches: set[Batch] = set()
        self._changed = threading.Condition()
        self._gone: DeviceError | None = None
        self._pause_s = PAUSES_S[0]
        self._opened: Future[None] = Future()
        self._watch = Watch(STUCK_S, self._overdue)
        self._thread = threading.Thread(target=self._serve, name=f"device {name}", daemon=True)
        self._thread.start()
        try:
            self._opened.result()
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """What the device calls itself."""
        return self._name

    @property
    def units(self) -> int:
        """Compute units in use."""
        return self._units

    def run(self, words: Words) -> tuple[Words, Statistics]:
        """Compute words; see `Device.run`."""
        batch = self._submit(words)
        try:
            return batch.future.result()
        except BaseException:
            # After Ctrl-C what is not yet started is not wanted any more.
            batch.dropped = True
            batch.future.cancel()
            raise

    def submit(self, words: Words) -> Future[tuple[Words, Statistics]]:
        """Compute words later; what `run` returns, or raises, is in the future.

        Cards wait while the future's callbacks run.

        Raises
        ------
        DeviceAbortedError
            If the device is closed.
        DeviceLostError
            If a call of XRT's has not come back.
        """
        return self._submit(words).future

    def _submit(self, words: Words) -> Batch:
        count = len(words)
        results = np.zeros((count, self._overlay.output_bytes), np.uint8)
        starts = self._cut(count)
        batch = Batch(results, len(starts) - 1)
        pieces = [
            Work(batch, words[start:end], results[start:end])
            for start, end in zip(starts, starts[1:], strict=False)
        ]
        batch.future.add_done_callback(lambda future: self._batches.discard(batch))
        with self._changed:
            if self._gone is not None:
                raise type(self._gone)(str(self._gone))
            self._batches.add(batch)
            self._queue.extend(pieces)
            self._changed.notify_all()
        return batch

    def close(self) -> None:
        """Let go of everything; words that are not computed yet are given up."""
        with self._changed:
            if self._gone is not None:
                return
            self._gone = DeviceAbortedError(f"device {self._name} is closed; open another session")
            self._changed.notify_all()
        self._thread.join(CLOSE_S)
        self._watch.close()
        self._give_up()

    def _cut(self, count: int) -> list[int]:
        """Where pieces of a batch begin, and where the last one ends.

        All compute units get equally many, as far as there are words.
        """
        word_bytes = max(self._overlay.input_bytes, self._overlay.output_bytes)
        most = max(1, PIECE_BYTES // word_bytes)
        pieces = -(-count // (most * self._units)) * self._units
        pieces = max(1, min(pieces, count))
        return [count * piece // pieces for piece in range(pieces + 1)]

    def _overdue(self) -> None:
        """Give up the device: a call of XRT's has not come back."""
        with self._changed:
            if self._gone is None:
                self._gone = DeviceLostError(
                    f"device {self._name}: a call of XRT's did not come back in {STUCK_S:g} s; "
                    "end this program, and look at the card or its simulator"
                )
        self._give_up()

    def _give_up(self) -> None:
        """Fail whatever is waited for, as the device is gone."""
        error = self._gone
        assert error is not None
        with contextlib.suppress(InvalidStateError):
            self._opened.set_exception(error)
        for batch in list(self._batches):
            _fail(batch, error)

    # What follows runs in the thread that talks to XRT.

    def _serve(self) -> None:
        try:
            for card in self._cards:
                with self._watch:
                    card.open()
        except BaseException as error:
            with contextlib.suppress(InvalidStateError):
                self._opened.set_exception(error)
        else:
            with contextlib.suppress(InvalidStateError):
                self._opened.set_result(None)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._busy() or self._gone)
                if self._gone:
                    break
            self._step()
        for card in self._cards:
            with self._watch:
                card.close()
        self._give_up()

    def _busy(self) -> bool:
        return any(unit.running for _, unit in self._units_open())

    def _units_open(self) -> list[tuple[LoadedCard, LoadedUnit]]:
        return [(card, unit) for card in self._cards for unit in card.units]

    def _step(self) -> None:
        """Start what can be started, and see what is over."""
        self._reopen()
        self._start()
        over = False
        for card, unit in self._units_open():
            if unit.running and unit in card.units:
                over |= self._look(card, unit)
        if over:
            self._pause_s = PAUSES_S[0]
            return
        with self._changed:
            room = any(unit.ready for _, unit in self._units_open())
            if not (room and self._queue) and not self._gone:
                self._changed.wait(self._pause_s)
        self._pause_s = min(2 * self._pause_s, PAUSES_S[1])

    def _reopen(self) -> None:
        """Open cards that were lost, if there is something to do; without them nothing is done."""
        for card in self._cards:
            if card.units or not self._queue:
                continue
            try:
                with self._watch:
                    card.open()
            except BaseException as error:
                with self._changed:
                    waiting = list(self._queue)
                    self._queue.clear()
                for work in waiting:
                    _fail(work.batch, self._named(error))
                return

    def _start(self) -> None:
        """Hand out pieces, to the compute unit that has the fewest."""
        while True:
            free = [one for one in self._units_open() if one[1].ready]
            with self._changed:
                if not free or not self._queue:
                    return
                work = self._queue.popleft()
            batch = work.batch
            if batch.dropped or not _wanted(batch):
                continue  # cancelled, or another piece has failed
            card, unit = min(free, key=lambda one: len(one[1].running))
            try:
                with self._watch:
                    unit.start(work)
            except BaseException as error:
                self._failed(card, batch, error)

    def _look(self, card: LoadedCard, unit: LoadedUnit) -> bool:
        """Whether a compute unit's oldest run is over; its results are fetched."""
        slot = unit.running[0]
        work = _work(slot)
        batch = work.batch
        try:
            with self._watch:
                state = slot.state()
            if state is RunState.PENDING:
                self._check_time(unit, batch)
                return False
            if unit.aborted:
                unit.finished()
                return True
            if state is RunState.FAILED:
                raise DeviceLostError(
                    f"device {self._name}: XRT reports that a run failed; see its messages"
                )
            with self._watch:
                record = slot.record()
            status = abi.Status(record["status"])
            if status & abi.Status.NO_IMAGE and not slot.loads:
                # The run before this one was to load the image, and failed.
                unit.loaded = False
                with self._changed:
                    self._queue.appendleft(work)
            else:
                raise_for_status(self._name, status)
                with self._watch:
                    slot.fetch()
                batch.records.append((unit, record))
        except BaseException as error:
            unit.loaded = False
            self._failed(card, batch, error)
        unit.finished()
        if len(batch.records) == batch.pieces:
            with contextlib.suppress(InvalidStateError):
                batch.future.set_result((batch.results, merge(batch.records)))
        return True

    def _check_time(self, unit: LoadedUnit, batch: Batch) -> None:
        """Have a run ended that takes too long.

        Raises
        ------
        DeviceTimeoutError
            If the kernel cannot be told, or does not stop.
        """
        late_s = time.monotonic() - unit.since
        if late_s <= (GRACE_S if unit.aborted else self._timeout_s):
            return
        text = f"no result after {self._timeout_s:g} s; give it more time, or fewer words"
        if not unit.aborted:
            _fail(batch, DeviceTimeoutError(f"device {self._name}: {text}"))
            with self._watch:
                if unit.abort():
                    return
        raise DeviceTimeoutError(
            f"device {self._name}: {text}; the kernel does not stop either, so the card is opened "
            "afresh"
        )

    def _failed(self, card: LoadedCard, batch: Batch, error: BaseException) -> None:
        """Fail a batch; and close its card, if that is to blame.

        Whatever else runs there fails too if the card is lost, and begins again if only a kernel
        hangs.
        """
        named = self._named(error)
        _fail(batch, named)
        if named is error and not isinstance(named, DeviceLostError | DeviceTimeoutError):
            return
        others = [_work(slot) for unit in card.units for slot in unit.running]
        with self._watch:
            card.close()
        if isinstance(named, DeviceTimeoutError):
            with self._changed:
                self._queue.extendleft(reversed(others))
        else:
            for work in others:
                _fail(work.batch, named)

    def _named(self, error: BaseException) -> DeviceError:
        if isinstance(error, DeviceError):
            return error
        return DeviceError(f"device {self._name}: {type(error).__name__}: {error}")


def _work(slot: Slot) -> Work:
    assert isinstance(slot.work, Work)
    return slot.work


def _wanted(batch: Batch) -> bool:
    """Whether a batch's results are still waited for; from then on it cannot be cancelled."""
    future = batch.future
    return not future.done() and (future.running() or future.set_running_or_notify_cancel())


def _fail(batch: Batch, error: DeviceError) -> None:
    with contextlib.suppress(InvalidStateError):
        batch.future.set_exception(error)


def merge(records: Sequence[tuple[Hashable, Record]]) -> Statistics:
    """What a batch took, from what its pieces took on which compute unit.

    Compute units work at the same time: cycles are those of the one that took the most.
    """
    per_unit: dict[Hashable, Record] = {}
    gaps = span = 0
    for unit, record in records:
        total = per_unit.setdefault(unit, dict.fromkeys(record, 0))
        for name, value in record.items():
            total[name] += value
        span += record["last_done"] - record["first_done"]
        gaps += record["words"] - 1

    def most(name: str) -> int:
        return max(record[name] for record in per_unit.values())

    return Statistics(
        words=sum(record["words"] for record in per_unit.values()),
        cycles=most("cycles"),
        load_cycles=most("load_cycles"),
        output_interval=span / gaps / len(per_unit) if gaps else None,
        busy_cycles=most("busy"),
    )


def _check_xclbin(name: str, xclbin: Xclbin, overlay: Overlay) -> None:
    if not any(unit.kernel == KERNEL_NAME for unit in xclbin.units):
        found = ", ".join(sorted({unit.kernel for unit in xclbin.units})) or "none"
        raise WrongBitstreamError(
            f"device {name}: {xclbin.path} has no kernel {KERNEL_NAME!r} (it has: {found}); "
            "build one with: make bitstream"
        )
    version = xclbin.notes.get("abi", abi.ABI_VERSION)
    if version != abi.ABI_VERSION:
        raise WrongBitstreamError(
            f"device {name}: {xclbin.path} is for version {version} of the formats, not "
            f"{abi.ABI_VERSION}; build it with this release"
        )
    noted = xclbin.notes.get("configuration")
    if noted is not None and noted != f"{overlay.kernel.digest:016x}":
        raise WrongImageError(
            f"device {name}: the model was compiled for kernel {overlay.kernel.digest:016x}, "
            f"{xclbin.path} has {noted}; compile the model for that board"
        )


def open_door() -> Door:
    """XRT's Python binding where it is installed, else its C library.

    Raises
    ------
    XrtMissingError
        If neither can be loaded, or XRT would not find its driver.
    """
    check_setup()
    try:
        return open_binding()
    except XrtMissingError:
        return open_library()


def parse_numbers(argument: str) -> list[int] | None:
    """Cards of a device name: `0`, `0,1`, or `all` (None).

    Raises
    ------
    DeviceNameError
        If the text is none of these.
    """
    if argument == "all":
        return None
    numbers = argument.split(",") if argument else ["0"]
    if not all(number.isdecimal() for number in numbers) or len(set(numbers)) != len(numbers):
        raise DeviceNameError(
            f"device xrt takes numbers of cards behind the colon, like xrt:0,1 or xrt:all, not "
            f"{argument!r}"
        )
    return [int(number) for number in numbers]


def open_device(argument: str, overlay: Overlay, options: DeviceOptions) -> XrtDevice:
    """Cards: `xrt:0`, `xrt:0,1` or `xrt:all`; `xrt:0@FILE` with an xclbin of your own.

    Without a file it is the one under `options.xclbin_dir` that is named after the kernel's
    configuration.

    Raises
    ------
    DeviceError
        If they cannot be opened.
    """
    cards, _, file = argument.partition("@")
    numbers = parse_numbers(cards)
    path = Path(file) if file else options.xclbin_dir / f"{overlay.kernel.digest:016x}.xclbin"
    if not path.exists():
        raise WrongBitstreamError(
            f"device xrt: {path} is missing; build it with 'make bitstream', or name one: "
            f"xrt:{cards or 0}@FILE"
        )
    door = open_door()
    if numbers is None:
        numbers = list(range(len(door.cards())))
        if not numbers:
            raise DeviceNotFoundError("device xrt:all: XRT has no cards")
    name = f"xrt:{','.join(map(str, numbers))}"
    return XrtDevice(name, door, numbers, path, overlay, options.timeout_s)


def main() -> int:
    """List the cards."""
    try:
        door = open_door()
        cards = door.cards()
    except DeviceError as error:
        print(error, file=sys.stderr)
        return 1
    for number, platform in enumerate(cards):
        print(f"xrt:{number}  {platform}")
    if not cards:
        print(f"no cards ({door.name})", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
