"""CPU seconds, since machines are shared: the best of several, in turns with what is compared."""

import time
from collections.abc import Callable, Mapping

__all__ = ["best_cpu_seconds", "interleaved"]


def best_cpu_seconds(run: Callable[[], object], rounds: int = 7, least_s: float = 0.05) -> float:
    """CPU seconds of a call: the best of several rounds, each of at least `least_s`."""
    run()
    calls = 1
    while True:
        started = time.process_time()
        for _ in range(calls):
            run()
        taken = time.process_time() - started
        if taken >= least_s or calls > 1_000_000:
            break
        calls *= 2
    best = taken / calls
    for _ in range(rounds - 1):
        started = time.process_time()
        for _ in range(calls):
            run()
        best = min(best, (time.process_time() - started) / calls)
    return best


def interleaved(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """CPU seconds of several calls, the best of each, taken in turns in one run."""
    best = dict.fromkeys(runs, float("inf"))
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - started)
    return best
