"""Speed of the host without the device: packing, buffers, queues, unpacking.

XRT is replaced by a binding whose runs are done at once and compute nothing, so what is measured is
an upper bound of what a card could be fed with, on this machine.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console

from trencadis_format.command_line import reported
from trencadis_format.compiled import load_overlay
from trencadis_format.files import write_atomically
from trencadis_format.image import ABI_VERSION
from trencadis_format.overlay import Overlay
from trencadis_format.registers import STATISTICS, Register
from trencadis_format.tensors import pack_inputs, unpack_outputs
from trencadis_host.devices.xrt.binding import RunState
from trencadis_host.devices.xrt.device import XrtDevice
from trencadis_host.devices.xrt.unit import ARGUMENTS
from trencadis_host.devices.xrt.xclbin import Bank
from trencadis_host.measure.benchmark import random_batch
from trencadis_host.tables import figures_table
from trencadis_sim.hw_emu.pack_xclbin import pack_xclbin
from trencadis_sim.hw_emu.xclbin import kernel_description

__all__ = ["NoBinding", "main", "measure"]

PLATFORM = "none"


class _NoBuffer:
    def __init__(self, size: int, byte_s: float) -> None:
        self.host: npt.NDArray[np.uint8] = np.zeros(size, np.uint8)
        self._byte_s = byte_s

    def to_card(self, size: int) -> None:
        if self._byte_s:
            time.sleep(size * self._byte_s)

    def to_host(self, size: int) -> None:
        pass

    def close(self) -> None:
        pass


class _NoRun:
    """Reports what a kernel would."""

    def __init__(self, unit: "_NoUnit") -> None:
        self._unit = unit
        self._statistics: Any = None
        self._samples = 0
        self._done_s = 0.0

    def set_buffer(self, argument: int, buffer: Any) -> None:
        if ARGUMENTS[argument] is Register.STATISTICS:
            self._statistics = buffer

    def set_scalar(self, argument: int, value: int) -> None:
        if ARGUMENTS[argument] is Register.SAMPLES:
            self._samples = value

    def start(self) -> None:
        record = dict.fromkeys((field.name for field in STATISTICS.fields), 0)
        record |= {"version": ABI_VERSION, "samples": self._samples}
        packed = STATISTICS.pack(**record).to_bytes(STATISTICS.bits // 8, "little")
        self._statistics.host[:] = np.frombuffer(packed, np.uint8)
        self._done_s = self._unit.end_of_run()

    def state(self) -> RunState:
        return RunState.DONE if time.perf_counter() >= self._done_s else RunState.PENDING

    def close(self) -> None:
        pass


class _NoUnit:
    def __init__(self, byte_s: float, run_s: float) -> None:
        self._byte_s = byte_s
        self._run_s = run_s
        self._free_s = 0.0

    def end_of_run(self) -> float:
        """Time at which a run that is queued now ends; it begins after those before it."""
        if not self._run_s:
            return 0.0
        self._free_s = max(self._free_s, time.perf_counter()) + self._run_s
        return self._free_s

    def group(self, argument: int) -> int:
        return 0

    def buffer(self, size: int, group: int) -> _NoBuffer:
        return _NoBuffer(size, self._byte_s)

    def run(self) -> _NoRun:
        return _NoRun(self)

    def write_register(self, offset: int, value: int) -> bool:
        return True

    def close(self) -> None:
        pass


@dataclass
class _NoCard:
    byte_s: float
    run_s: float
    platform: str = PLATFORM

    @property
    def loaded(self) -> bytes:
        return b""

    def load(self, path: Path) -> None:
        pass

    def unit(self, name: str) -> _NoUnit:
        return _NoUnit(self.byte_s, self.run_s)

    def close(self) -> None:
        pass


@dataclass
class NoBinding:
    """A binding of a card that computes nothing.

    Attributes
    ----------
    byte_s : float
        Seconds that moving a byte to the card takes.
    run_s : float
        Seconds of a run.
    """

    byte_s: float = 0.0
    run_s: float = 0.0
    name: str = "no XRT"

    def cards(self) -> list[str]:
        """One card."""
        return [PLATFORM]

    def open(self, number: int) -> _NoCard:
        """The card."""
        return _NoCard(self.byte_s, self.run_s)


def measure(
    overlay: Overlay, *, samples: int, units: int, runs: int, threads: int, input_type: str | None
) -> dict[str, Any]:
    """Time the host's part of a batch.

    Parameters
    ----------
    overlay : Overlay
        The network.
    samples : int
        Samples of the batch.
    units : int
        Compute units the samples go to.
    runs : int
        Runs of which the median time is taken.
    threads : int
        Threads that pack.
    input_type : str, optional
        As if the network took inputs of this type.

    Returns
    -------
    dict
        JSON-ready; units are in the names.
    """
    if input_type is not None:
        offset = 128 if input_type == "int8" else 0
        form = replace(overlay.input, dtype=input_type, key_offset=offset)
        overlay = replace(overlay, input=form)
    inputs = random_batch(overlay.input, samples)
    packed = pack_inputs(overlay, inputs)
    results = np.zeros((samples, overlay.output_bytes), np.uint8)
    with ThreadPoolExecutor(threads) as pool, tempfile.TemporaryDirectory() as folder:
        path = _write_xclbin(Path(folder, "units.xclbin"), overlay, units)
        with XrtDevice("none", NoBinding(), (0,), path, overlay, 60) as device:
            alone = _seconds(lambda: pack_inputs(overlay, inputs), runs)
            packing = _seconds(lambda: pack_inputs(overlay, inputs, pool), runs)
            queueing = _seconds(lambda: device.run(packed), runs)
            unpacking = _seconds(lambda: unpack_outputs(overlay, results), runs)

            def all_of_it() -> None:
                unpack_outputs(overlay, device.run(pack_inputs(overlay, inputs, pool))[0])

            whole = _seconds(all_of_it, runs)
        path = _write_xclbin(Path(folder, "unit.xclbin"), overlay, 1)
        hidden = _hidden_transfers(path, overlay, packed[:256])
    source = np.ones(1 << 26, np.uint8)
    target = np.zeros_like(source)
    copying = _seconds(lambda: np.copyto(target, source), runs)
    moved = inputs.nbytes + packed.nbytes
    return {
        "model": overlay.name,
        "words": samples,
        "input_type": overlay.input.dtype,
        "input_bytes_per_word": inputs.nbytes // samples,
        "packed_bytes_per_word": overlay.input_bytes,
        "output_bytes_per_word": overlay.output_bytes,
        "threads": threads,
        "packing_words_per_s": samples / packing,
        "packing_gb_per_s": moved / packing / 1e9,
        "packing_words_per_s_and_thread": samples / alone,
        "packing_part_of_copy_speed": moved / packing / (2 * source.nbytes / copying),
        "device_words_per_s": samples / queueing,
        "device_gb_per_s": (packed.nbytes + results.nbytes) / queueing / 1e9,
        "unpacking_words_per_s": samples / unpacking,
        "whole_words_per_s": samples / whole,
        "hidden_part_of_transfers": hidden,
        "whole_gb_per_s": (moved + results.nbytes) / whole / 1e9,
        "memory_copy_gb_per_s": 2 * source.nbytes / copying / 1e9,
    }


def _write_xclbin(path: Path, overlay: Overlay, units: int) -> Path:
    data = pack_xclbin(
        kernel_description(overlay.kernel),
        b"",
        platform=PLATFORM,
        banks=[Bank("DDR[0]", 0, 1 << 30, True)],
        units=[0] * units,
    )
    write_atomically(path, data)
    return path


def _hidden_transfers(path: Path, overlay: Overlay, samples: npt.NDArray[np.uint8]) -> float:
    """Part of the transfers' time in which the card computes, with one compute unit.

    The stand-in takes as long for a transfer as for a run, 5 ms, which is the hardest case: 0 is
    one after the other, 1 is all but the first transfer hidden by runs.
    """
    batches, step_s = 50, 5e-3
    with XrtDevice(
        "none", NoBinding(step_s / samples.nbytes, step_s), (0,), path, overlay, 60
    ) as device:
        device.run(samples)
        started = time.perf_counter()
        for future in [device.submit(samples) for _ in range(batches)]:
            future.result()
        took = time.perf_counter() - started
    one_by_one, at_best = 2 * batches * step_s, (batches + 1) * step_s
    return (one_by_one - took) / (one_by_one - at_best)


def _seconds(function: Callable[[], Any], runs: int) -> float:
    function()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return median(times)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--samples", "--words", type=click.IntRange(1), default=8192, show_default=True)
@click.option("--units", type=click.IntRange(1, 60), default=4, show_default=True)
@click.option("--runs", type=click.IntRange(1), default=7, show_default=True)
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    default=os.cpu_count() or 1,
    show_default="the processors",
    help="Threads that pack.",
)
@click.option(
    "--input-type",
    type=click.Choice(["int8", "uint8", "float32"]),
    help="As if the network took inputs of this type.  [default: the network's]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@reported("host_speed")
def main(
    model: Path,
    samples: int,
    units: int,
    runs: int,
    threads: int,
    input_type: str | None,
    as_json: bool,
) -> None:
    """Measure the host's part of running MODEL (.tcd); nothing is computed."""
    figures = measure(
        load_overlay(model),
        samples=samples,
        units=units,
        runs=runs,
        threads=threads,
        input_type=input_type,
    )
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    Console().print(figures_table(f"{model}, the host alone", figures))


if __name__ == "__main__":
    main()
