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

from trencadis_host.device import DeviceOptions
from trencadis_hw.container import Overlay
from trencadis_sim.emulator import Emulator
from trencadis_sim.hw_emu.device import EmulatedCard, open_device

__all__ = ["main", "soak"]

WARM_UP = 50
"""Runs before memory is measured: buffers have grown, allocators are in their stride."""


def soak(card: EmulatedCard, overlay: Overlay, *, runs: int, words: int) -> dict[str, Any]:
    """Run batches of one to `words` words.

    Parameters
    ----------
    card : EmulatedCard
        The device.
    overlay : Overlay
        The network that it was opened with.
    runs : int
        Runs, after some that are not counted.
    words : int
        Most words of a run.

    Returns
    -------
    dict
        JSON-ready: runs with wrong results; resident memory and open files of the three processes
        before and after.
    """
    rng = np.random.default_rng(0)
    packed = np.zeros((words, overlay.input_bytes), np.uint8)
    packed[:, : overlay.input.values] = rng.integers(0, 256, (words, overlay.input.values))
    expected = Emulator(overlay).run(packed)[0]
    wrong = 0

    def run(count: int) -> None:
        nonlocal wrong
        first = rng.integers(0, words - count + 1)
        results, _ = card.run(packed[first : first + count])
        wrong += not np.array_equal(results, expected[first : first + count])

    for number in range(WARM_UP):
        run(words if number == 0 else int(rng.integers(1, words + 1)))
    memory, files = _each(card, _resident), _each(card, _descriptors)
    started = time.monotonic()
    for _ in range(runs):
        run(int(rng.integers(1, words + 1)))
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
    "--words", type=click.IntRange(1), default=8, show_default=True, help="Most of a run."
)
@click.option(
    "--build-dir",
    type=click.Path(path_type=Path),
    default=DeviceOptions.build_dir,
    show_default=True,
)
def main(model: Path, runs: int, words: int, build_dir: Path) -> None:
    """Soak the emulated card with runs of MODEL (.tcd)."""
    overlay = Overlay.load(model)
    options = DeviceOptions(build_dir=build_dir, timeout_s=60)
    with open_device("", overlay, options) as card:
        print(json.dumps(soak(card, overlay, runs=runs, words=words), indent=2))


if __name__ == "__main__":
    main()
