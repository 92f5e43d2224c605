"""Cards, through XRT: any number of them, with any number of compute units each.

`python -m trencadis_host.devices.xrt.device` lists them.

A batch is cut into pieces that are handed out to compute units. Every compute unit has two sets of
buffers, so the next piece's samples are on the card before the last piece is done. One thread talks
to XRT; `submit` only puts samples into its queue. If a call of XRT's does not come back, the device
is given up: nothing can be done about that thread.
"""

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import replace
from pathlib import Path

import numpy as np

from trencadis_format.closing import Closing
from trencadis_format.image import ABI_VERSION
from trencadis_format.overlay import Overlay
from trencadis_format.registers import Status
from trencadis_host.devices.protocol import DeviceError, DeviceOptions, Statistics, raise_for_status
from trencadis_host.devices.xrt.batch import Batch, PackedBatch, Work, work_of
from trencadis_host.devices.xrt.binding import RunState, XrtBinding
from trencadis_host.devices.xrt.capi import open_library
from trencadis_host.devices.xrt.card import LoadedCard
from trencadis_host.devices.xrt.pyxrt import open_pyxrt
from trencadis_host.devices.xrt.setup import check_setup
from trencadis_host.devices.xrt.unit import KERNEL_NAME, LoadedUnit
from trencadis_host.devices.xrt.watch import Watch
from trencadis_host.devices.xrt.xclbin import Xclbin, XclbinError
from trencadis_host.errors import (
    DeviceAbortedError,
    DeviceLostError,
    DeviceNameError,
    DeviceNotFoundError,
    DeviceTimeoutError,
    WrongBitstreamError,
    WrongImageError,
    XrtMissingError,
)

__all__ = ["XrtDevice", "open_binding", "open_device", "parse_numbers"]

PIECE_BYTES = 1 << 20
"""Most bytes of samples, in or out, that are computed in one run."""

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


class XrtDevice(Closing):
    """A network on cards.

    Parameters
    ----------
    name : str
        What the device is called in messages.
    binding : XrtBinding
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
        If cards or xclbin cannot be used; its subclasses in `trencadis_host.errors` say why.
    """

    def __init__(
        self,
        name: str,
        binding: XrtBinding,
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
        self._cards = [LoadedCard(name, binding, number, xclbin, overlay) for number in numbers]
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
        """Name of the device."""
        return self._name

    @property
    def units(self) -> int:
        """Compute units in use."""
        return self._units

    def run(self, samples: PackedBatch) -> tuple[PackedBatch, Statistics]:
        """Compute samples; see `Device.run`."""
        batch = self._submit(samples)
        try:
            return batch.future.result()
        except BaseException:
            # After Ctrl-C what is not yet started is not wanted any more.
            batch.dropped = True
            batch.future.cancel()
            raise

    def submit(self, samples: PackedBatch) -> Future[tuple[PackedBatch, Statistics]]:
        """Compute samples later; what `run` returns, or raises, is in the future.

        Cards wait while the future's callbacks run.

        Raises
        ------
        DeviceAbortedError
            If the device is closed.
        DeviceLostError
            If a call of XRT's has not come back.
        """
        return self._submit(samples).future

    def _submit(self, samples: PackedBatch) -> Batch:
        count = len(samples)
        results = np.zeros((count, self._overlay.output_bytes), np.uint8)
        starts = self._cut(count)
        batch = Batch(results, len(starts) - 1)
        pieces = [
            Work(batch, samples[start:end], results[start:end])
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
        """Let go of everything; samples that are not computed yet are given up."""
        with self._changed:
            if self._gone is not None:
                return
            self._gone = DeviceAbortedError(f"device {self._name} is closed; open another session")
            self._changed.notify_all()
        self._thread.join(CLOSE_S)
        self._watch.close()
        self._give_up()

    def _cut(self, count: int) -> list[int]:
        """Cut a batch: where its pieces begin, and where the last one ends.

        All compute units get equally many, as far as there are samples.
        """
        sample_bytes = max(self._overlay.input_bytes, self._overlay.output_bytes)
        most = max(1, PIECE_BYTES // sample_bytes)
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
            batch.fail(error)

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
                    work.batch.fail(self._named(error))
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
            if batch.dropped or not batch.wanted():
                continue  # cancelled, or another piece has failed
            card, unit = min(free, key=lambda one: len(one[1].running))
            try:
                with self._watch:
                    unit.start(work)
            except BaseException as error:
                self._failed(card, batch, error)

    def _look(self, card: LoadedCard, unit: LoadedUnit) -> bool:
        """Look whether a compute unit's oldest run is over; fetch its results."""
        buffers = unit.running[0]
        work = work_of(buffers)
        batch = work.batch
        try:
            with self._watch:
                state = buffers.state()
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
                record = buffers.record()
            status = Status(record["status"])
            if status & Status.NO_IMAGE and not buffers.loads:
                # The run before this one was to load the image, and failed.
                unit.loaded = False
                with self._changed:
                    self._queue.appendleft(work)
            else:
                raise_for_status(self._name, status)
                with self._watch:
                    buffers.fetch()
                batch.records.append((unit, record))
        except BaseException as error:
            unit.loaded = False
            self._failed(card, batch, error)
        unit.finished()
        batch.finish()
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
        text = f"no result after {self._timeout_s:g} s; give it more time, or fewer samples"
        if not unit.aborted:
            batch.fail(DeviceTimeoutError(f"device {self._name}: {text}"))
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
        batch.fail(named)
        if named is error and not isinstance(named, DeviceLostError | DeviceTimeoutError):
            return
        others = [work_of(buffers) for unit in card.units for buffers in unit.running]
        with self._watch:
            card.close()
        if isinstance(named, DeviceTimeoutError):
            with self._changed:
                self._queue.extendleft(reversed(others))
        else:
            for work in others:
                work.batch.fail(named)

    def _named(self, error: BaseException) -> DeviceError:
        if isinstance(error, DeviceError):
            return error
        return DeviceError(f"device {self._name}: {type(error).__name__}: {error}")


def _check_xclbin(name: str, xclbin: Xclbin, overlay: Overlay) -> None:
    if not any(unit.kernel == KERNEL_NAME for unit in xclbin.units):
        found = ", ".join(sorted({unit.kernel for unit in xclbin.units})) or "none"
        raise WrongBitstreamError(
            f"device {name}: {xclbin.path} has no kernel {KERNEL_NAME!r} (it has: {found}); "
            "build one with: make bitstream"
        )
    version = xclbin.notes.get("abi", ABI_VERSION)
    if version != ABI_VERSION:
        raise WrongBitstreamError(
            f"device {name}: {xclbin.path} is for version {version} of the formats, not "
            f"{ABI_VERSION}; build it with this release"
        )
    noted = xclbin.notes.get("configuration")
    if noted is not None and noted != f"{overlay.kernel.digest:016x}":
        raise WrongImageError(
            f"device {name}: the model was compiled for kernel {overlay.kernel.digest:016x}, "
            f"{xclbin.path} has {noted}; compile the model for that board"
        )


def open_binding() -> XrtBinding:
    """XRT's Python binding where it is installed, else its C library.

    Raises
    ------
    XrtMissingError
        If neither can be loaded, or XRT would not find its driver.
    """
    check_setup()
    try:
        return open_pyxrt()
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
            f"device xrt takes numbers of cards after the colon, like xrt:0,1 or xrt:all, not "
            f"{argument!r}"
        )
    return [int(number) for number in numbers]


def open_device(argument: str, overlay: Overlay, options: DeviceOptions) -> XrtDevice:
    """Cards: `xrt:0`, `xrt:0,1` or `xrt:all`; `xrt:0@FILE` with an xclbin of your own.

    Without a file it is the one that `make bitstream` put into the user's cache, or into
    `options.xclbin_dir`, named after the kernel's configuration.

    Raises
    ------
    DeviceError
        If they cannot be opened.
    """
    cards, _, file = argument.partition("@")
    numbers = parse_numbers(cards)
    path = Path(file) if file else options.xclbin(overlay.kernel.digest)
    if not path.exists():
        raise WrongBitstreamError(
            f"device xrt: {path} is missing; build it with 'make bitstream', or name one: "
            f"xrt:{cards or 0}@FILE"
        )
    binding = open_binding()
    if numbers is None:
        numbers = list(range(len(binding.cards())))
        if not numbers:
            raise DeviceNotFoundError("device xrt:all: XRT has no cards")
    name = f"xrt:{','.join(map(str, numbers))}"
    return XrtDevice(name, binding, numbers, path, overlay, options.timeout_s)


def main() -> int:
    """List the cards."""
    try:
        binding = open_binding()
        cards = binding.cards()
    except DeviceError as error:
        print(error, file=sys.stderr)
        return 1
    for number, platform in enumerate(cards):
        print(f"xrt:{number}  {platform}")
    if not cards:
        print(f"no cards ({binding.name})", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
