"""Timing a session: the device's cycles, and the host's part of the time."""

import time
from collections.abc import Mapping
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.overlay import Overlay
from trencadis_format.tensor_formats import InputFormat
from trencadis_format.tensors import pack_inputs, unpack_outputs
from trencadis_host.session import Session

__all__ = ["cycles_per_inference", "measure", "random_batch", "random_feed", "random_inputs"]


def random_inputs(session: Session, samples: int, seed: int = 0) -> npt.NDArray[Any]:
    """Inputs that use the whole range of the input's quantisation; see `random_batch`."""
    return random_batch(session.overlay.input, samples, seed)


def random_batch(form: InputFormat, samples: int, seed: int = 0) -> npt.NDArray[Any]:
    """Random inputs, shape (samples, ...) as the model declares them.

    Where inputs are sparse, as many channels of a position are other than zero as may be.
    """
    rng = np.random.default_rng(seed)
    shape = (samples, form.rows, form.columns, form.channels)
    keys = rng.integers(0, 256, shape)
    if form.dtype not in ("int8", "uint8"):
        # Between the steps of the quantisation, so that there is something to round; not zeros.
        keys = keys + rng.uniform(-0.5, 0.5, shape) * (keys != form.zero_key)
    if form.nonzeros:
        rank = rng.random(keys.shape).argsort(axis=3).argsort(axis=3)
        keys = np.where(rank < form.nonzeros, keys, form.zero_key)
    axes = form.axes + "".join(axis for axis in "CHW" if axis not in form.axes)
    keys = keys.transpose(0, *(1 + "HWC".index(axis) for axis in axes))
    keys = keys.reshape(samples, *(size for size in form.shape[1:] if size is not None))
    if form.dtype in ("int8", "uint8"):
        return (keys - form.key_offset).astype(form.dtype)
    return ((keys - form.zero_key) * form.scale).astype(form.dtype)


def cycles_per_inference(session: Session, inputs: npt.NDArray[Any]) -> float | None:
    """Cycles from sample to sample in steady state, transfers included.

    All samples are run, and a quarter of them: the difference is free of what a run takes to fill
    and to drain the pipeline of layers.

    Parameters
    ----------
    session : Session
        The network on its device.
    inputs : array, shape (samples, ...)
        At least 8 samples, better some dozens.

    Returns
    -------
    float or None
        None if the device does not count cycles.
    """
    name = session.get_inputs()[0].name
    counts = []
    for samples in (len(inputs) // 4, len(inputs)):
        session.run(None, {name: inputs[:samples]})
        taken = session.statistics
        assert taken is not None
        if taken.cycles is None or taken.load_cycles is None:
            return None
        counts.append((samples, taken.cycles - taken.load_cycles))
    (few, short), (many, long) = counts
    return (long - short) / (many - few)


def random_feed(session: Session, samples: int) -> dict[str, npt.NDArray[Any]]:
    """Random inputs of any network, by name.

    What goes straight to the overlay is as `random_inputs` has it; other inputs are of the declared
    types and shapes, open sizes 1 but for the batch.
    """
    if session.network.only_overlay is not None:
        return {session.overlay.input.name: random_inputs(session, samples)}
    feed = {}
    rng = np.random.default_rng(0)
    for form in session.network.inputs:
        shape = [1 if size is None else size for size in form.shape]
        if shape and (form.shape[0] is None or session.network.fixed_batch):
            shape[0] = -(-samples // shape[0]) * shape[0]
        dtype = np.dtype(form.dtype)
        if dtype.kind == "f":
            feed[form.name] = rng.normal(size=shape).astype(dtype)
        else:
            low, high = (0, 2) if dtype.kind == "b" else (0, 100)
            feed[form.name] = rng.integers(low, high, shape).astype(dtype)
    return feed


def measure(
    session: Session, given: Mapping[str, npt.NDArray[Any]] | None, *, samples: int, runs: int
) -> dict[str, Any]:
    """Run samples several times.

    Parameters
    ----------
    session : Session
        The network on its device.
    given : mapping of str to array, optional
        Inputs by name, repeated or cut to `samples`; random ones if left out.
    samples : int
        Samples per run, at least 8.
    runs : int
        Runs to time, after one that is not counted.

    Returns
    -------
    dict
        Medians over the runs. Figures of cycles are None where the device does not count, or the
        network has several segments.
    """
    feed = random_feed(session, samples) if given is None else _repeated(session, given, samples)
    samples = next((len(array) for array in feed.values() if array.ndim), 1)
    session.run(None, feed)
    elapsed = _seconds(lambda: session.run(None, feed), runs)
    report = session.network.report
    overlay = session.network.only_overlay
    cores = session.network.kernel.cores if overlay is not None else 1
    dense, sparse = (report.get(name) for name in ("cycles_dense", "cycles_sparse_weights"))
    figures: dict[str, Any] = {
        "words": samples,
        "runs": runs,
        "predicted_cycles_per_word": report["cycles_per_word"] / cores,
        "prediction": report["cycles_are"],
        "dense_cycles_per_word": dense and dense / cores,
        "sparse_weights_cycles_per_word": sparse and sparse / cores,
        "times_fewer_than_dense": dense and dense / report["cycles_per_word"],
    }
    if overlay is None:
        figures["segments"] = len(session.network.segments)
    else:
        statistics = session.statistics
        assert statistics is not None
        figures |= {
            "steady_cycles_per_word": cycles_per_inference(session, feed[overlay.input.name]),
            "cycles": statistics.cycles,
        }
    figures |= {"seconds_per_run": elapsed, "words_per_second": samples / elapsed}
    if overlay is not None:
        cycles = figures["cycles"]
        figures["simulated_cycles_per_second"] = None if cycles is None else cycles / elapsed
        figures |= _packing(overlay, feed[overlay.input.name], runs)
    return figures


def _repeated(
    session: Session, given: Mapping[str, npt.NDArray[Any]], samples: int
) -> dict[str, npt.NDArray[Any]]:
    """Inputs repeated or cut to so many samples, or whole batches where their size is fixed."""
    overlay = session.network.only_overlay
    if overlay is not None:
        overlay.input.keys(given[overlay.input.name])  # refuses what is no input
    size = session.network.fixed_batch or 1
    samples = -(-samples // size) * size
    feed = {}
    for name, array in given.items():
        batch = array.ndim and len(array)
        feed[name] = np.resize(array, (samples, *array.shape[1:])) if batch else array
    return feed


def _packing(overlay: Overlay, inputs: npt.NDArray[Any], runs: int) -> dict[str, float]:
    """Seconds that turning arrays into samples and back takes."""
    packed = pack_inputs(overlay, inputs)
    packing = _seconds(lambda: pack_inputs(overlay, inputs), runs)
    results = np.zeros((len(inputs), overlay.output_bytes), np.uint8)
    return {
        "packing_seconds": packing,
        "packing_bytes_per_second": packed.nbytes / packing,
        "unpacking_seconds": _seconds(lambda: unpack_outputs(overlay, results), runs),
    }


def _seconds(function: Any, runs: int) -> float:
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return float(median(times))
