"""Timing a session: the device's cycles, and the host's part of the time."""

import time
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_host.packing import pack_inputs, unpack_outputs
from trencadis_host.session import Session
from trencadis_hw.container import InputFormat

__all__ = ["cycles_per_word", "measure", "random_batch", "random_inputs"]


def random_inputs(session: Session, words: int, seed: int = 0) -> npt.NDArray[Any]:
    """Inputs that use the whole range of the input's quantisation; see `random_batch`."""
    return random_batch(session.overlay.input, words, seed)


def random_batch(form: InputFormat, words: int, seed: int = 0) -> npt.NDArray[Any]:
    """Random inputs, shape (words, ...) as the model declares them.

    Where inputs are sparse, as many channels of a position are other than zero as may be.
    """
    rng = np.random.default_rng(seed)
    shape = (words, form.rows, form.columns, form.channels)
    keys = rng.integers(0, 256, shape)
    if form.dtype not in ("int8", "uint8"):
        # Between the steps of the quantisation, so that there is something to round; not zeros.
        keys = keys + rng.uniform(-0.5, 0.5, shape) * (keys != form.zero_key)
    if form.nonzeros:
        rank = rng.random(keys.shape).argsort(axis=3).argsort(axis=3)
        keys = np.where(rank < form.nonzeros, keys, form.zero_key)
    axes = form.axes + "".join(axis for axis in "CHW" if axis not in form.axes)
    keys = keys.transpose(0, *(1 + "HWC".index(axis) for axis in axes))
    keys = keys.reshape(words, *(size for size in form.shape[1:] if size is not None))
    if form.dtype in ("int8", "uint8"):
        return (keys - form.key_offset).astype(form.dtype)
    return ((keys - form.zero_key) * form.scale).astype(form.dtype)


def cycles_per_word(session: Session, inputs: npt.NDArray[Any]) -> float | None:
    """Cycles from word to word in steady state, transfers included.

    All words are run, and a quarter of them: the difference is free of what a run takes to fill
    and to drain the pipeline of layers.

    Parameters
    ----------
    session : Session
        The network on its device.
    inputs : array, shape (words, ...)
        At least 8 words, better some dozens.

    Returns
    -------
    float or None
        None if the device does not count cycles.
    """
    name = session.get_inputs()[0].name
    counts = []
    for words in (len(inputs) // 4, len(inputs)):
        session.run(None, {name: inputs[:words]})
        taken = session.statistics
        assert taken is not None
        if taken.cycles is None or taken.load_cycles is None:
            return None
        counts.append((words, taken.cycles - taken.load_cycles))
    (few, short), (many, long) = counts
    return (long - short) / (many - few)


def measure(
    session: Session, array: npt.NDArray[Any] | None, *, words: int, runs: int
) -> dict[str, Any]:
    """Run words several times.

    Parameters
    ----------
    session : Session
        The network on its device.
    array : array, optional
        Inputs, repeated or cut to `words`; random ones if left out.
    words : int
        Words a run, at least 8.
    runs : int
        Runs to time, after one that is not counted.

    Returns
    -------
    dict
        Medians over the runs. `cycles` figures are None where the device does not count.
    """
    if array is None:
        inputs = random_inputs(session, words)
    else:
        session.overlay.input.keys(array)  # refuses what is not an input, before it is repeated
        inputs = np.resize(array, (words, *array.shape[1:]))
    name = session.get_inputs()[0].name
    session.run(None, {name: inputs})
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        session.run(None, {name: inputs})
        seconds.append(time.perf_counter() - started)
    statistics = session.statistics
    assert statistics is not None
    overlay = session.overlay
    report = overlay.report
    cores = overlay.kernel.cores
    packed = pack_inputs(overlay, inputs)
    packing = _seconds(lambda: pack_inputs(overlay, inputs), runs)
    results = np.zeros((words, overlay.output_bytes), np.uint8)
    unpacking = _seconds(lambda: unpack_outputs(overlay, results), runs)
    elapsed = median(seconds)
    return {
        "words": words,
        "runs": runs,
        "predicted_cycles_per_word": report["cycles_per_word"] / cores,
        "prediction": report["cycles_are"],
        "steady_cycles_per_word": cycles_per_word(session, inputs),
        "cycles": statistics.cycles,
        "seconds_per_run": elapsed,
        "words_per_second": words / elapsed,
        "simulated_cycles_per_second": None
        if statistics.cycles is None
        else statistics.cycles / elapsed,
        "packing_seconds": packing,
        "packing_bytes_per_second": packed.nbytes / packing,
        "unpacking_seconds": unpacking,
    }


def _seconds(function: Any, runs: int) -> float:
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return float(median(times))
