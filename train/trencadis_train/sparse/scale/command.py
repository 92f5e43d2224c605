"""Train a network of tens of millions of neurons on generated samples, and measure it.

`python -m trencadis_train.sparse.scale.command --width 500000 --hidden 20 --fan-in 10` prints one
JSON object: seconds, nanoseconds per connection and sample, peak memory.
"""

import argparse
import json
import math
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from trencadis_format.command_line import reported
from trencadis_train.errors import TrainingError
from trencadis_train.sparse.scale.kernels import BATCH
from trencadis_train.sparse.scale.network import ScaleNetwork, Shape
from trencadis_train.sparse.scale.storage import read_network, write_network

__all__ = ["main", "measure"]

REPORT_S = 15.0
"""Seconds between two lines of progress."""


class _Progress:
    """Lines of progress on stderr, not too many."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._last = time.monotonic()
        self.step = ""

    def __call__(self, what: str, part: float) -> None:
        now = time.monotonic()
        if not self._quiet and now - self._last >= REPORT_S:
            self._last = now
            print(f"{self.step}{what} {100 * part:.0f} %", file=sys.stderr, flush=True)


def measure(
    shape: Shape,
    steps: int,
    *,
    seed: int = 1,
    rate: float = 1e-2,
    fraction: float = 0.3,
    checkpoint: Path | None = None,
    every: int = 0,
    resume: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train for some steps of 16 generated samples, evolve once, and say what it took.

    Parameters
    ----------
    shape : Shape
        Shape of the network.
    steps : int
        In all; those of a resumed network count.
    seed : int
        Seed of the network and the samples.
    rate : float
        Learning rate.
    fraction : float
        Fraction of the connections that the evolution changes.
    checkpoint : Path, optional
        Written at the end.
    every : int
        Steps after which it is written, too; 0: only at the end.
    resume : bool
        Begin with the checkpoint, if it is there.
    quiet : bool
        Show no progress.

    Raises
    ------
    TrainingError
        If a number makes no sense, memory does not suffice, or a checkpoint is not usable or cannot
        be written; all of that before anything is trained.
    """
    if steps < 1 or not 0 < rate < math.inf:
        raise TrainingError(f"steps and rate must be positive, not {steps} and {rate}")
    if every < 0 or (every and checkpoint is None):
        raise TrainingError(
            f"every must be 0 or more steps between checkpoints, not {every}; name a checkpoint"
        )
    if checkpoint is not None and not os.access(checkpoint.parent, os.W_OK):
        raise TrainingError(f"{checkpoint}: cannot be written; name a file in a folder of yours")
    progress = _Progress(quiet)
    _compile()
    started = time.process_time()
    if resume and checkpoint is not None and checkpoint.exists():
        network = read_network(checkpoint, progress)
        if network.shape != shape:
            raise TrainingError(
                f"{checkpoint}: holds a network of another shape; name another file"
            )
    else:
        network = ScaleNetwork(shape, seed=seed, report=progress)
    begun = time.process_time() - started
    losses: list[float] = []
    seconds: list[float] = []
    while network.steps < steps:
        x, labels = generated(shape, seed, network.steps)
        progress.step = f"step {network.steps + 1} of {steps}: "
        started = time.process_time()
        losses.append(network.step(x, labels, rate=rate))
        seconds.append(time.process_time() - started)
        if checkpoint is not None and every and network.steps % every == 0:
            write_network(network, checkpoint, progress)
    progress.step = ""
    started = time.process_time()
    changed = network.evolve(fraction)
    evolved = time.process_time() - started
    if checkpoint is not None:
        write_network(network, checkpoint, progress)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    per_step = shape.connections * BATCH
    return {
        "neurons": shape.neurons,
        "connections": shape.connections,
        "hidden_layers": shape.hidden,
        "fan_in": shape.fan_in,
        "window": shape.window,
        "steps": network.steps,
        "samples": network.steps * BATCH,
        "losses": [round(loss, 4) for loss in losses],
        "training_cpu_s": round(sum(seconds), 2),
        "ns_per_connection_and_sample": round(1e9 * float(np.median(seconds)) / per_step, 4)
        if seconds
        else None,
        "initialising_ns_per_connection": round(1e9 * begun / shape.connections, 2),
        "evolving_ns_per_connection": round(1e9 * evolved / shape.connections, 2),
        "changed": changed,
        "peak_bytes": peak,
        "bytes_per_connection": round(peak / shape.connections, 3),
    }


def _compile() -> None:
    """Compile the loops, or load them, so that no measurement has that in it."""
    tiny = Shape(2, 2, 1, 2, 1)
    network = ScaleNetwork(tiny)
    network.step(np.ones((2, BATCH), np.float32), np.zeros(BATCH, np.int64), rate=0.0)
    network.evolve(0.5)


def generated(shape: Shape, seed: int, step: int) -> tuple[Any, Any]:
    """Samples of a step: a prototype of every class, with noise; the same whenever it is asked."""
    prototypes = np.random.default_rng([seed, 1]).standard_normal(
        (shape.outputs, shape.inputs), np.float32
    )
    rng = np.random.default_rng([seed, 2, step])
    labels = rng.integers(0, shape.outputs, BATCH)
    noise = rng.standard_normal((BATCH, shape.inputs), np.float32)
    return np.ascontiguousarray(((prototypes[labels] + noise) / 1.5).T), labels


def main(arguments: list[str] | None = None) -> None:
    """Measure what the command line asks for, and print it as JSON."""
    parser = argparse.ArgumentParser(prog="scale", description=__doc__)
    parser.add_argument("--width", type=int, default=500_000, help="neurons of a hidden layer")
    parser.add_argument("--hidden", type=int, default=20, help="hidden layers")
    parser.add_argument("--fan-in", type=int, default=10, help="connections of a neuron")
    parser.add_argument("--window", type=int, default=0, help="inputs around a neuron's place")
    parser.add_argument("--inputs", type=int, default=784)
    parser.add_argument("--outputs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=8, help="batches of 16 samples")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1e-2)
    parser.add_argument("--checkpoint", type=Path, help="written at the end")
    parser.add_argument("--every", type=int, default=0, help="steps between checkpoints")
    parser.add_argument("--resume", action="store_true", help="begin with the checkpoint")
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args(arguments)
    with reported("scale"):
        shape = Shape(
            given.inputs, given.outputs, given.hidden, given.width, given.fan_in, given.window
        )
        found = measure(
            shape,
            given.steps,
            seed=given.seed,
            rate=given.rate,
            checkpoint=given.checkpoint,
            every=given.every,
            resume=given.resume,
            quiet=given.quiet,
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
