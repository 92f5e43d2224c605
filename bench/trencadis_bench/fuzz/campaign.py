"""A fuzzing campaign: children that try seeds, killed when one takes too long."""

import json
import selectors
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from trencadis_bench.fuzz.trial import Class, Trial

__all__ = ["Finding", "Tally", "run_campaign"]

SECONDS_PER_CHILD = 60.0
"""Seconds before another kind has its turn; starting a child takes about two."""

SEEDS_PER_CHILD = 20_000
"""Seeds that one child tries, at most."""

MAX_SECONDS = 120.0
"""A seed that takes longer is a hang, on a processor that is shared with other jobs, too."""


@dataclass(frozen=True)
class Finding:
    """A seed whose outcome should not be."""

    kind: str
    seed: int
    trial: Trial


@dataclass
class Tally:
    """Counts of a campaign.

    Attributes
    ----------
    counts : Counter of (str, Class)
        Inputs of every kind, by what became of them.
    numbers : int
        Numbers that the judge compared.
    findings : list of Finding
        What should not be.
    """

    counts: Counter[tuple[str, Class]] = field(default_factory=Counter)
    numbers: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, kind: str, seed: int, trial: Trial) -> None:
        """Count a trial."""
        self.counts[kind, trial.kind] += 1
        self.numbers += trial.numbers
        if not trial.kind.good:
            self.findings.append(Finding(kind, seed, trial))


def run_campaign(
    kinds: Sequence[str],
    seconds: float,
    first_seed: int,
    report: Callable[[str, int, Trial], None],
    *,
    seeds_per_child: int = SEEDS_PER_CHILD,
) -> Tally:
    """Try seeds until time is over, the kinds in turn.

    Parameters
    ----------
    kinds : sequence of str
        What to try.
    seconds : float
        How long, about.
    first_seed : int
        First seed of every kind.
    report : callable
        Called with every bad trial: kind, seed, trial.
    """
    tally = Tally()
    end = time.monotonic() + seconds
    next_seed = dict.fromkeys(kinds, first_seed)
    while time.monotonic() < end:
        for kind in kinds:
            first = next_seed[kind]
            until = min(end, time.monotonic() + SECONDS_PER_CHILD)
            for seed, trial in _child(kind, first, seeds_per_child, until):
                next_seed[kind] = seed + 1
                tally.add(kind, seed, trial)
                if not trial.kind.good:
                    report(kind, seed, trial)
            if time.monotonic() >= end:
                break
    return tally


def _child(kind: str, first: int, count: int, end: float) -> Iterator[tuple[int, Trial]]:
    """Trials of one child; the last may be the one that it died of."""
    command = [sys.executable, "-m", "trencadis_bench.fuzz.worker", kind, str(first), str(count)]
    seed = first
    with (
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as child,
        selectors.DefaultSelector() as selector,
    ):
        assert child.stdout is not None
        selector.register(child.stdout, selectors.EVENT_READ)
        try:
            while seed < first + count:
                if not selector.select(MAX_SECONDS):
                    yield seed, Trial(Class.HANG, f"over {MAX_SECONDS:.0f} s", 0, ())
                    return
                line = child.stdout.readline()
                if not line:
                    status = child.wait()
                    yield seed, Trial(Class.CRASH, f"the process ended with {status}", 0, ())
                    return
                yield seed, _trial(json.loads(line))
                seed += 1
                if time.monotonic() >= end:
                    return
        finally:
            child.kill()


def _trial(data: dict[str, Any]) -> Trial:
    return Trial(Class[data["kind"]], data["detail"], data["numbers"], tuple(data["changes"]))
