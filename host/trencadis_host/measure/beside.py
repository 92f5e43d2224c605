"""A compiled network beside the model it was made from, on other runtimes."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trencadis_format.errors import InputError
from trencadis_format.onnxruntime_door import Mode, explained, open_session
from trencadis_host.measure.benchmark import random_feed
from trencadis_host.measure.openvino_door import OpenvinoModel, has_openvino
from trencadis_host.session import Session

__all__ = ["BATCHES", "beside_others"]

BATCHES = (1, 32, 256)

SECONDS = 0.3
"""Seconds of each measurement."""

MODES = {"default": Mode.FAST, "exact": Mode.BASELINE}


def beside_others(
    image: Path, model: Path, device: str, *, all_threads: int, seconds: float = SECONDS
) -> list[dict[str, Any]]:
    """Inferences per second of a device, of onnxruntime and of OpenVINO.

    Parameters
    ----------
    image, model : Path
        The compiled network, and the ONNX file it was compiled from.
    device : str
        What computes the image.
    all_threads : int
        Threads of the second half of the figures; the first has one.
    seconds : float
        Seconds of each measurement.

    Returns
    -------
    list of dict
        For each number of threads and each batch: `threads`, `batch`, `device` (inferences per
        second); for each of onnxruntime's modes, and for OpenVINO if it is installed,
        `onnxruntime_MODE` or `openvino` and the same with `_different`: outputs of the batch that
        are not those of the device.

    Raises
    ------
    InputError
        If the model's input is not that of the image.
    """
    rows = []
    for threads in sorted({1, all_threads}):
        with Session(image, device, threads=threads) as ours:
            runs = _runtimes(model, threads, ours)
            for batch in _batches(ours):
                feed = random_feed(ours, batch)
                expected = ours.run(None, feed)
                rate = _rate(lambda feed=feed: ours.run(None, feed), seconds)
                row: dict[str, Any] = {"threads": threads, "batch": batch, "device": rate * batch}
                for runtime, run in runs.items():
                    with explained(f"{model}: {runtime} refuses the image's inputs"):
                        outputs = run(feed)
                    rate = _rate(lambda run=run, feed=feed: run(feed), seconds)
                    row[runtime] = rate * batch
                    row[f"{runtime}_different"] = sum(
                        int(np.count_nonzero(np.asarray(their) != our))
                        for their, our in zip(outputs, expected, strict=True)
                    )
                rows.append(row)
    return rows


def _runtimes(model: Path, threads: int, ours: Session) -> dict[str, Callable[[Any], list[Any]]]:
    """Computations of the model's outputs from its inputs, by name."""
    with explained(f"{model}: onnxruntime cannot run it"):
        theirs = {name: open_session(model, mode, threads=threads) for name, mode in MODES.items()}
    names = sorted(node.name for node in ours.get_inputs())
    for session in theirs.values():
        given = [argument.name for argument in session.get_inputs()]
        if sorted(given) != names:
            raise InputError(
                f"{model}: its inputs are {given}, the image's {names}; give the model that the "
                "image was compiled from"
            )
    wanted = [node.name for node in ours.get_outputs()]
    runs: dict[str, Callable[[Any], list[Any]]] = {
        f"onnxruntime_{mode}": lambda feed, session=session: session.run(wanted, feed)
        for mode, session in theirs.items()
    }
    if has_openvino():
        other = OpenvinoModel(model, threads)
        runs["openvino"] = lambda feed: other.run(wanted, feed)
    return runs


def _batches(session: Session) -> Sequence[int]:
    """The sizes of batches: where the model fixes one, that alone, for onnxruntime takes no other.

    Where the first axis of an input is no batch, one sample.
    """
    fixed = session.network.fixed_batch
    if fixed is not None:
        return (fixed,)
    return BATCHES if session.network.open_batch else (1,)


def _rate(run: Callable[[], object], seconds: float) -> float:
    """Runs per second."""
    started, count = time.perf_counter(), 0
    while (taken := time.perf_counter() - started) < seconds:
        run()
        count += 1
    return count / taken
