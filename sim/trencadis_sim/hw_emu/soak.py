"""Many runs on the emulated card: all results right, and no memory lost on the way.

`python -m trencadis_sim.hw_emu.soak model.tcd --runs 10000`
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from trencadis_format.command_line import reported
from trencadis_format.compiled import load_overlay
from trencadis_format.overlay import Overlay
from trencadis_host.devices.emulator.device import Emulator
from trencadis_host.devices.protocol import DeviceOptions
from trencadis_sim.hw_emu.device import EmulatedCard, open_device

__all__ = ["main", "soak"]

WARM_UP = 50
"""Runs before memory is measured: buffers have grown, allocators are in their stride."""


def soak(card: EmulatedCard, overlay: Overlay, *, runs: int, samples: int) -> dict[str, Any]:
    """Run batches of one to `samples` samples.

    Parameters
    ----------
    card : EmulatedCard
        The device.
    overlay : Overlay
        The network that it was opened with.
    runs : int
        Runs, after some that are not counted.
    samples : int
        Most samples of a run.

    Returns
    -------
    dict
        JSON-ready: runs with wrong results; resident memory and open files of the three processes
        before and after.
    """
    rng = np.random.default_rng(0)
    packed = np.zeros((samples, overlay.input_bytes), np.uint8)
    packed[:, : overlay.input.values] = rng.integers(0, 256, (samples, overlay.input.values))
    expected = Emulator(overlay).run(packed)[0]
    wrong = 0

    def run(count: int) -> None:
        nonlocal wrong
        first = rng.integers(0, samples - count + 1)
        results, _ = card.run(packed[first : first + count])
        wrong += not np.array_equal(results, expected[first : first + count])

    for number in range(WARM_UP):
        run(samples if number == 0 else int(rng.integers(1, samples + 1)))
    memory, files = _each(card, _resident), _each(card, _descriptors)
    started = time.monotonic()
    for _ in range(runs):
        run(int(rng.integers(1, samples + 1)))
    return {
        "runs": runs,
        "wrong": wrong,
        "seconds": time.monotonic() - started,
        "kib_before": memory,
        "kib_after": _each(card, _resident),
        "descriptors_before": files,
        "descriptors_after": _each(card, _descriptors),
    }


def _each(card: EmulatedCard, measure: Callable[[int], int]) -> dict[str, int]:
    """A figure of each of the processes."""
    assert card.process is not None
    processes = {"program": os.getpid(), "xrt": card.process, "simulator": card.simulators[0]}
    return {name: measure(pid) for name, pid in processes.items()}


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _resident(pid: int) -> int:
    """Resident memory in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--runs", type=click.IntRange(1), default=10_000, show_default=True)
@click.option(
    "--samples",
    "--words",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Most of a run.",
)
@click.option(
    "--build-dir",
    type=click.Path(path_type=Path),
    help="Where simulators are kept.  [default: the user's cache]",
)
@reported("soak")
def main(model: Path, runs: int, samples: int, build_dir: Path | None) -> None:
    """Soak the emulated card with runs of MODEL (.tcd)."""
    overlay = load_overlay(model)
    options = DeviceOptions(build_dir=build_dir, timeout_s=60)
    with open_device("", overlay, options) as card:
        print(json.dumps(soak(card, overlay, runs=runs, samples=samples), indent=2))


if __name__ == "__main__":
    main()
