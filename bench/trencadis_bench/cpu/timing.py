"""Rates by CPU time, of several ways of doing the same, in turn."""

import time
from collections.abc import Callable, Mapping
from statistics import median

__all__ = ["rates", "ratio"]


def rates(
    runs: Mapping[str, Callable[[], object]], *, repetitions: int, seconds: float
) -> dict[str, list[float]]:
    """Runs per CPU second.

    The ways take turns, so that a slow phase of the machine slows all of them down.

    Parameters
    ----------
    runs : mapping of str to callable
        What to time, by name; each is called once before.
    repetitions : int
        Turns of each.
    seconds : float
        CPU seconds of a turn.

    Returns
    -------
    dict of list of float
        One rate per turn.
    """
    for run in runs.values():
        run()
    measured: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repetitions):
        for name, run in runs.items():
            measured[name].append(_rate(run, seconds))
    return measured


def _rate(run: Callable[[], object], seconds: float) -> float:
    started, count = time.process_time(), 0
    while True:
        run()
        count += 1
        taken = time.process_time() - started
        if taken >= seconds:
            return count / taken


def ratio(measured: Mapping[str, list[float]], name: str, base: str) -> float:
    """Speed-up of `name` over `base`: the median of the turns' ratios."""
    pairs = zip(measured[name], measured[base], strict=True)
    return median(first / second for first, second in pairs)
