"""A child process that tries seeds under a memory limit; its parent watches the time.

Usage: python -m trencadis_bench.fuzz.worker KIND FIRST COUNT; a line of JSON for every seed.
"""

import json
import resource
import sys
import tempfile
import warnings
from pathlib import Path

from trencadis_bench.fuzz.parsers import try_parser
from trencadis_bench.fuzz.trial import Trial, try_network
from trencadis_boards import load_board

__all__ = ["NETWORKS", "main"]

NETWORKS = "networks"
"""The kind of whole networks; others are of `PARSERS`."""

MAX_BYTES = 6 << 30
"""Address space of a child."""


def main(kind: str, first: int, count: int) -> None:
    """Try seeds and print what becomes of each."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    warnings.simplefilter("ignore")
    board = load_board("sim")
    with tempfile.TemporaryDirectory(prefix="trencadis-fuzz-") as name:
        folder = Path(name)
        for seed in range(first, first + count):
            if kind == NETWORKS:
                trial = try_network(seed, board, folder)
            else:
                trial = try_parser(kind, seed, folder)
            print(json.dumps({"seed": seed, **_plain(trial)}), flush=True)


def _plain(trial: Trial) -> dict[str, object]:
    return {
        "kind": trial.kind.name,
        "detail": trial.detail,
        "numbers": trial.numbers,
        "changes": list(trial.changes),
    }


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
