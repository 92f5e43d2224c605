"""Cards, through XRT: any number of them, with any number of compute units each.

`python -m trencadis_host.xrt` lists them.

A batch is cut into pieces that are handed out to compute units. Every compute unit has two sets of
buffers, so the next piece's words are on the card before the last piece is done. One thread talks
to XRT; `submit` only puts words into its queue.
"""

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trencadis_host.device import DeviceError, DeviceOptions, Statistics, raise_for_status
from trencadis_host.door import Card, Door, RunState
from trencadis_host.faults import (
    DeviceAbortedError,
    DeviceLostError,
    DeviceNotFoundError,
    DeviceTimeoutError,
    WrongBitstreamError,
    WrongImageError,
    XrtMissingError,
)
from trencadis_host.xclbin import Xclbin, XclbinError
from trencadis_host.xrt_capi import open_library
from trencadis_host.xrt_pyxrt import open_binding
from trencadis_host.xrt_setup import check_setup
from trencadis_host.xrt_unit import KERNEL_NAME, LoadedUnit, Record
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


@dataclass(eq=False)
class Batch:
    """Words of one call, until all their results are there."""

    results: Words
    pieces: int
    future: Future[tuple[Words, Statistics]] = field(default_factory=Future)
    records: list[tuple[int, Record]] = field(default_factory=list)
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
        self._door = door
        self._numbers = list(numbers)
        self._path = path
        self._overlay = overlay
        self._timeout_s = timeout_s
        try:
            self._xclbin = Xclbin.load(path)
        except XclbinError as error:
            raise WrongBitstreamError(f"device {name}: {error}") from error
        _check_xclbin(name, self._xclbin, overlay)
        self._cards: list[Card] = []
        self._units: list[LoadedUnit] = []
        self._queue: deque[Work] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._pause_s = PAUSES_S[0]
        self._open()
        self._thread = threading.Thread(target=self._serve, name=f"device {name}", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """What the device calls itself."""
        return self._name

    @property
    def units(self) -> int:
        """Compute units in use."""
        return len(self._units)

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

        Raises
        ------
        DeviceAbortedError
            If the device is closed.
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
        with self._changed:
            if self._closing:
                raise DeviceAbortedError(f"device {self._name} is closed; open another session")
            self._queue.extend(pieces)
            self._changed.notify_all()
        return batch

    def close(self) -> None:
        """Let go of everything; words that are not computed yet are given up."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _cut(self, count: int) -> list[int]:
        """Where pieces of a batch begin, and where the last one ends."""
        word_bytes = max(self._overlay.input_bytes, self._overlay.output_bytes)
        most = max(1, PIECE_BYTES // word_bytes)
        pieces = max(-(-count // most), min(len(self._units), count), 1)
        return [count * piece // pieces for piece in range(pieces + 1)]

    # What follows runs in the thread that talks to XRT; only `_open` also runs before there is one.

    def _open(self) -> None:
        """Open cards and compute units, and put the network on them."""
        try:
            for number in self._numbers:
                card = self._door.open(number)
                self._cards.append(card)
                self._check_platform(card, number)
                card.load(self._path)
                for unit in self._xclbin.units:
                    if unit.kernel == KERNEL_NAME:
                        self._units.append(LoadedUnit(card.unit(unit.name), self._overlay))
        except BaseException:
            self._let_go()
            raise

    def _check_platform(self, card: Card, number: int) -> None:
        """XRT checks the platform of real cards itself; names of theirs are not the platform's."""
        wanted = self._xclbin.platform
        if self._xclbin.emulated and card.platform and card.platform != wanted:
            raise WrongBitstreamError(
                f"device {self._name}: {self._path} is for platform {wanted}, card {number} is a "
                f"{card.platform}; build it for that one"
            )

    def _let_go(self) -> None:
        """Close whatever is open."""
        for opened in (*self._units, *self._cards):
            with contextlib.suppress(DeviceError):
                opened.close()
        self._units, self._cards = [], []

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._busy() or self._closing)
                if self._closing:
                    break
            opened = bool(self._units)
            try:
                if not opened:
                    self._open()
                    opened = True
                self._step()
            except BaseException as error:
                if not isinstance(error, DeviceError):
                    error = DeviceError(f"device {self._name}: {type(error).__name__}: {error}")
                # What has not begun gets another chance, unless there is no card to begin on.
                self._fail_all(error, waiting=not opened)
        error = DeviceAbortedError(f"device {self._name} was closed before a run was over")
        self._fail_all(error, waiting=True)

    def _busy(self) -> bool:
        return any(unit.running for unit in self._units)

    def _step(self) -> None:
        """Start what can be started, and see what is over."""
        self._start()
        over = False
        for unit in self._units:
            if unit.running:
                over |= self._look(unit)
        if over:
            self._pause_s = PAUSES_S[0]
            return
        with self._changed:
            room = any(unit.free for unit in self._units)
            if not (room and self._queue) and not self._closing:
                self._changed.wait(self._pause_s)
        self._pause_s = min(2 * self._pause_s, PAUSES_S[1])

    def _start(self) -> None:
        """Hand out pieces, to the compute unit that has the fewest."""
        while True:
            free = [unit for unit in self._units if unit.free]
            with self._changed:
                if not free or not self._queue:
                    return
                work = self._queue.popleft()
            batch = work.batch
            if batch.dropped or not _wanted(batch):
                continue  # cancelled, or another piece has failed
            unit = min(free, key=lambda unit: len(unit.running))
            try:
                unit.start(work)
            except DeviceError as error:
                _fail(batch, error)

    def _look(self, unit: LoadedUnit) -> bool:
        """Whether a compute unit's oldest run is over; its results are fetched."""
        slot = unit.running[0]
        state = slot.state()
        if state is RunState.PENDING:
            if time.monotonic() - unit.since > self._timeout_s:
                self._give_up(unit)
                return True
            return False
        work = slot.work
        assert isinstance(work, Work)
        batch = work.batch
        try:
            if state is RunState.FAILED:
                raise DeviceLostError(
                    f"device {self._name}: XRT reports that a run failed; see its messages"
                )
            record = slot.record()
            _check_status(self._name, abi.Status(record["status"]), self._path)
            slot.fetch()
        except DeviceError as error:
            unit.loaded = False
            _fail(batch, error)
            if isinstance(error, DeviceLostError):
                raise
        else:
            batch.records.append((self._units.index(unit), record))
            if len(batch.records) == batch.pieces and not batch.future.done():
                batch.future.set_result((batch.results, merge(batch.records)))
        unit.finished()
        return True

    def _give_up(self, unit: LoadedUnit) -> None:
        """End a run that takes too long; if the kernel does not let go, the card is given up."""
        slot = unit.running[0]
        work = slot.work
        assert isinstance(work, Work)
        error = DeviceTimeoutError(
            f"device {self._name}: no result after {self._timeout_s:g} s; give it more time, or "
            "fewer words"
        )
        _fail(work.batch, error)
        unit.loaded = False
        if unit.abort():
            deadline = time.monotonic() + GRACE_S
            while time.monotonic() < deadline:
                if slot.state() is not RunState.PENDING:
                    unit.finished()
                    return
                time.sleep(PAUSES_S[1])
        raise DeviceTimeoutError(
            f"{error}; the kernel does not stop either, so the card is opened afresh"
        )

    def _fail_all(self, error: DeviceError, *, waiting: bool) -> None:
        """Give up all that is under way, and the cards; the next run opens them again."""
        given_up = [slot.work for unit in self._units for slot in unit.running]
        if waiting:
            with self._changed:
                given_up += self._queue
                self._queue.clear()
        for work in given_up:
            if isinstance(work, Work):
                _fail(work.batch, error)
        self._let_go()


def _wanted(batch: Batch) -> bool:
    """Whether a batch's results are still waited for; from then on it cannot be cancelled."""
    future = batch.future
    return not future.done() and (future.running() or future.set_running_or_notify_cancel())


def _fail(batch: Batch, error: DeviceError) -> None:
    if _wanted(batch):
        batch.future.set_exception(error)


def merge(records: Sequence[tuple[int, Record]]) -> Statistics:
    """What a batch took, from what its pieces took.

    Compute units work at the same time: cycles are those of the one that took the most.
    """
    per_unit: dict[int, Record] = {}
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
    noted = xclbin.notes.get("configuration")
    if noted is not None and noted != f"{overlay.kernel.digest:016x}":
        raise WrongImageError(
            f"device {name}: the model was compiled for kernel {overlay.kernel.digest:016x}, "
            f"{xclbin.path} has {noted}; compile the model for that board"
        )


def _check_status(name: str, status: abi.Status, path: Path) -> None:
    if status & abi.Status.BAD_IMAGE:
        raise WrongImageError(
            f"device {name}: the kernel in {path} refused the image, which was compiled for other "
            "hardware; compile the model for that board"
        )
    if status & abi.Status.ABORTED:
        raise DeviceAbortedError(f"device {name}: the run was aborted")
    raise_for_status(name, status)


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


def parse_numbers(argument: str, door: Door) -> list[int]:
    """Cards of a device name: `0`, `0,1` or `all`.

    Raises
    ------
    DeviceError
        If the text is none of these.
    """
    if argument == "all":
        count = len(door.cards())
        if not count:
            raise DeviceNotFoundError("device xrt:all: XRT has no cards")
        return list(range(count))
    numbers = argument.split(",") if argument else ["0"]
    if not all(number.isdecimal() for number in numbers) or len(set(numbers)) != len(numbers):
        raise DeviceError(
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
    path = Path(file) if file else options.xclbin_dir / f"{overlay.kernel.digest:016x}.xclbin"
    if not path.exists():
        raise WrongBitstreamError(
            f"device xrt: {path} is missing; build it with 'make bitstream', or name one: "
            f"xrt:{cards or 0}@FILE"
        )
    door = open_door()
    numbers = parse_numbers(cards, door)
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
