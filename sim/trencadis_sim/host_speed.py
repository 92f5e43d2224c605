"""How fast the host is without the device: packing, buffers, queues, unpacking.

XRT is replaced by a door behind which every run is done at once and no word is computed, so what is
measured is an upper bound of what a card could be fed with, on this machine.
"""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from trencadis_host.door import RunState
from trencadis_host.packing import pack_inputs, unpack_outputs
from trencadis_host.xclbin import Bank
from trencadis_host.xrt import XrtDevice
from trencadis_hw import abi
from trencadis_hw.container import Overlay
from trencadis_sim.xclbin import kernel_description, pack_xclbin

__all__ = ["NoDoor", "main", "measure"]

PLATFORM = "none"


class _NoBuffer:
    def __init__(self, size: int) -> None:
        self.host: npt.NDArray[np.uint8] = np.zeros(size, np.uint8)

    def to_card(self, size: int) -> None:
        pass

    def to_host(self, size: int) -> None:
        pass

    def close(self) -> None:
        pass


class _NoRun:
    """Reports what a kernel would; the number of words is the last scalar but one."""

    def __init__(self) -> None:
        self._statistics: Any = None
        self._words = 0

    def set_buffer(self, argument: int, buffer: Any) -> None:
        if argument == 3:
            self._statistics = buffer

    def set_scalar(self, argument: int, value: int) -> None:
        if argument == 6:
            self._words = value

    def start(self) -> None:
        record = dict.fromkeys((field.name for field in abi.STATISTICS.fields), 0)
        record |= {"version": abi.ABI_VERSION, "words": self._words}
        packed = abi.STATISTICS.pack(**record).to_bytes(abi.STATISTICS.bits // 8, "little")
        self._statistics.host[:] = np.frombuffer(packed, np.uint8)

    def state(self) -> RunState:
        return RunState.DONE

    def close(self) -> None:
        pass


class _NoUnit:
    def group(self, argument: int) -> int:
        return 0

    def buffer(self, size: int, group: int) -> _NoBuffer:
        return _NoBuffer(size)

    def run(self) -> _NoRun:
        return _NoRun()

    def write_register(self, offset: int, value: int) -> bool:
        return True

    def close(self) -> None:
        pass


@dataclass
class _NoCard:
    platform: str = PLATFORM

    def load(self, path: Path) -> None:
        pass

    def unit(self, name: str) -> _NoUnit:
        return _NoUnit()

    def close(self) -> None:
        pass


@dataclass
class NoDoor:
    """A door to a card that computes nothing, in no time."""

    name: str = "no XRT"

    def cards(self) -> list[str]:
        """One card."""
        return [PLATFORM]

    def open(self, number: int) -> _NoCard:
        """The card."""
        return _NoCard()


def measure(overlay: Overlay, *, words: int, units: int, runs: int) -> dict[str, Any]:
    """Time the host's part of a batch.

    Parameters
    ----------
    overlay : Overlay
        The network.
    words : int
        Words of the batch.
    units : int
        Compute units the words go to.
    runs : int
        Runs of which the median time is taken.

    Returns
    -------
    dict
        JSON-ready; units are in the names.
    """
    inputs = _inputs(overlay, words)
    packed = pack_inputs(overlay, inputs)
    results = np.zeros((words, overlay.output_bytes), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "none.xclbin")
        data = pack_xclbin(
            kernel_description(overlay.kernel),
            b"",
            platform=PLATFORM,
            banks=[Bank("DDR[0]", 0, 1 << 30, True)],
            units=[0] * units,
        )
        path.write_bytes(data)
        with XrtDevice("none", NoDoor(), (0,), path, overlay, 60) as device:
            packing = _seconds(lambda: pack_inputs(overlay, inputs), runs)
            queueing = _seconds(lambda: device.run(packed), runs)
            unpacking = _seconds(lambda: unpack_outputs(overlay, results), runs)

            def all_of_it() -> None:
                unpack_outputs(overlay, device.run(pack_inputs(overlay, inputs))[0])

            whole = _seconds(all_of_it, runs)
    source = np.ones(1 << 26, np.uint8)
    target = np.zeros_like(source)
    copying = _seconds(lambda: np.copyto(target, source), runs)
    return {
        "model": overlay.name,
        "words": words,
        "input_type": overlay.input.dtype,
        "input_bytes_per_word": overlay.input_bytes,
        "output_bytes_per_word": overlay.output_bytes,
        "packing_words_per_s": words / packing,
        "packing_gb_per_s": packed.nbytes / packing / 1e9,
        "device_words_per_s": words / queueing,
        "device_gb_per_s": (packed.nbytes + results.nbytes) / queueing / 1e9,
        "unpacking_words_per_s": words / unpacking,
        "whole_words_per_s": words / whole,
        "whole_gb_per_s": packed.nbytes / whole / 1e9,
        "memory_copy_gb_per_s": source.nbytes / copying / 1e9,
    }


def _inputs(overlay: Overlay, words: int) -> npt.NDArray[Any]:
    form = overlay.input
    shape = (words, *(size for size in form.shape[1:] if size is not None))
    keys = np.random.default_rng(0).integers(0, 256, shape)
    if form.dtype in ("int8", "uint8"):
        return (keys - form.key_offset).astype(form.dtype)
    return ((keys - form.zero_key) * form.scale).astype(form.dtype)


def _seconds(function: Callable[[], Any], runs: int) -> float:
    function()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return median(times)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--words", type=click.IntRange(1), default=8192, show_default=True)
@click.option("--units", type=click.IntRange(1, 60), default=4, show_default=True)
@click.option("--runs", type=click.IntRange(1), default=7, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def main(model: Path, words: int, units: int, runs: int, as_json: bool) -> None:
    """Measure the host's part of running MODEL (.tcd); nothing is computed."""
    figures = measure(Overlay.load(model), words=words, units=units, runs=runs)
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    table = Table(title=f"{model}, the host alone", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in figures.items():
        text = f"{value:,.4g}" if isinstance(value, float) else str(value)
        table.add_row(name.replace("_", " "), text)
    Console().print(table)


if __name__ == "__main__":
    main()
