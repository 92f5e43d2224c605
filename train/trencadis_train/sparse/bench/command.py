"""Measure sparse training part by part; a part that is there is not measured again.

`python -m trencadis_train.sparse.bench.command` writes `build/bench/train.json`; every part runs in
a process of its own and leaves `build/bench/train/PART.json`.
"""

import argparse
import importlib
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trencadis_format.command_line import reported
from trencadis_format.files import write_atomically
from trencadis_train.errors import TrainingError

__all__ = ["PARTS", "compose", "main"]

SCALE = "trencadis_train.sparse.scale.command"


Measure = Callable[[Path], dict[str, Any]]
"""Takes the folder in which pictures are drawn."""


def _measure(module: str, name: str, *arguments: Any, draws: bool = False) -> Measure:
    """A function of a module of this package, imported when it is called."""

    def measure(folder: Path) -> dict[str, Any]:
        found = importlib.import_module(f"trencadis_train.sparse.bench.{module}")
        given = (folder, *arguments) if draws else arguments
        return getattr(found, f"measure_{name}")(*given)

    return measure


def _scale(*arguments: str) -> Measure:
    def measure(folder: Path) -> dict[str, Any]:
        # Peak memory is that of a process with nothing else in it.
        done = subprocess.run(
            [sys.executable, "-m", SCALE, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            raise TrainingError(f"{SCALE} {' '.join(arguments)} ended with {done.returncode}")
        return json.loads(done.stdout)

    return measure


SEEDS = (1, 2, 3)

PARTS: dict[str, Measure] = {
    "kernels": _measure("speed", "kernels"),
    "masked": _measure("speed", "masked"),
    "convolution": _measure("speed", "convolution"),
    "madelon": _measure("accuracy", "madelon", SEEDS),
    "published": _measure("accuracy", "published", SEEDS),
    **{f"own-{seed}": _measure("accuracy", "own", seed, "set") for seed in SEEDS},
    **{f"own-fixed-{seed}": _measure("accuracy", "own", seed, "fixed") for seed in SEEDS},
    "own-dense": _measure("accuracy", "dense", 1),
    "topologies": _measure("topologies", "topologies", draws=True),
    "activations": _measure("topologies", "activations", draws=True),
    "pruning": _measure("topologies", "pruning", draws=True),
    "workers": _measure("workers", "workers"),
    "scale-1m": _scale("--width", "50000", "--hidden", "20", "--steps", "8"),
    "scale-10m": _scale("--width", "250000", "--hidden", "40", "--steps", "8"),
    "scale-10m-window": _scale(
        "--width", "250000", "--hidden", "40", "--steps", "4", "--window", "8192"
    ),
    "scale-50m": _scale("--width", "1000000", "--hidden", "50", "--steps", "64"),
}
"""Parts in order."""

EXTRA_PARTS = {"scale-max": _scale("--width", "1000000", "--hidden", "106", "--steps", "2")}
"""Case of `make bench-train-max`: what 20 GiB hold."""


def compose(parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The figures by which training is judged; those of parts that are missing are null."""
    scale = [part for name, part in parts.items() if name.startswith("scale-")]
    own = [parts[f"own-{seed}"]["test"]["set"] for seed in SEEDS if f"own-{seed}" in parts]
    return {
        "masked_ratio": parts.get("masked", {}).get("masked_ratio"),
        "kernel_ns": parts.get("kernels", {}).get("kernel_ns"),
        "accuracy_published_settings": parts.get("published", {}).get(
            "accuracy_published_settings"
        ),
        "accuracy_own_settings": statistics.mean(own) if len(own) == len(SEEDS) else None,
        "bytes_per_connection": parts.get("scale-10m", {}).get("bytes_per_connection"),
        "largest_neurons": max((part["neurons"] for part in scale), default=None),
        "parts": parts,
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure all parts, or those that are named."""
    everything = {**PARTS, **EXTRA_PARTS}
    parser = argparse.ArgumentParser(prog="bench-train", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(everything)}; all but the largest")
    parser.add_argument("--output", type=Path, default=Path("build/bench"))
    parser.add_argument("--again", action="store_true", help="measure what is there, too")
    given = parser.parse_args(arguments)
    folder = given.output / "train"
    with reported("bench-train"):
        for name in given.parts or PARTS:
            if name not in everything:
                raise TrainingError(f"there is no part {name!r}; there are {', '.join(everything)}")
        folder.mkdir(parents=True, exist_ok=True)
        for name in given.parts or PARTS:
            path = folder / f"{name}.json"
            if path.exists() and not given.again:
                print(f"{name}: there already", file=sys.stderr, flush=True)
                continue
            print(f"{name}: measuring", file=sys.stderr, flush=True)
            _write(path, everything[name](given.output))
        found = {
            name: json.loads((folder / f"{name}.json").read_text())
            for name in everything
            if (folder / f"{name}.json").exists()
        }
        result = compose(found)
        _write(given.output / "train.json", result)
        if any(name.startswith("scale-") for name in found):
            from trencadis_train.sparse.bench.plots import draw_scale

            draw_scale(given.output / "train-scale.png", found)
    print(json.dumps({k: v for k, v in result.items() if k != "parts"}, indent=2))


def _write(path: Path, data: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(data, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
