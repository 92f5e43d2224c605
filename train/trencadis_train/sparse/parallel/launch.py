"""Train on several machines under `torchrun`: process 0 is the server, all others work for it.

On every machine: `torchrun --nnodes N --nproc-per-node M --master-addr HOST ... -m
trencadis_train.sparse.parallel.launch RECIPE -o FOLDER`. When a process dies, `torchrun` ends all,
and with `--max-restarts` starts them again, whereupon the training goes on from its checkpoint;
workers that are started by hand (see `worker`) come and go as they like.
"""

import argparse
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from trencadis_format.command_line import reported
from trencadis_train.data.datasets import open_data
from trencadis_train.errors import TrainingError
from trencadis_train.recipe import load_recipe
from trencadis_train.sparse.parallel.shares import SharedTraining
from trencadis_train.sparse.parallel.trainer import ParallelTrainer
from trencadis_train.sparse.parallel.worker import work

__all__ = ["Place", "main"]


@dataclass(frozen=True)
class Place:
    """Place of a process among those that `torchrun` started.

    Attributes
    ----------
    rank, size : int
        Its number, and how many there are.
    master : str
        Machine of process 0.
    restarts : int
        How often all were started again.
    """

    rank: int
    size: int
    master: str
    restarts: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Place by the variables that `torchrun` sets.

        Raises
        ------
        TrainingError
            If one is missing or no number, or there is no worker.
        """
        numbers = []
        for name, default in (
            ("RANK", ""),
            ("WORLD_SIZE", ""),
            ("TORCHELASTIC_RESTART_COUNT", "0"),
        ):
            text = environment.get(name, default)
            if not text.isdecimal():
                raise TrainingError(f"{name} must be a number, not {text!r}; start by torchrun")
            numbers.append(int(text))
        rank, size, restarts = numbers
        master = environment.get("MASTER_ADDR", "")
        if not master or size < 2 or rank >= size:
            raise TrainingError(
                f"process {rank} of {size} at {master!r}: a server and at least one worker are "
                "needed; start by torchrun with 2 processes or more"
            )
        return cls(rank, size, master, restarts)

    def own_address(self, port: int) -> str:
        """Address by which this machine reaches process 0, and is reached by it."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((self.master, port))  # sends nothing
            return probe.getsockname()[0]


def main(arguments: list[str] | None = None) -> None:
    """Serve or work, by one's place."""
    parser = argparse.ArgumentParser(prog="launch", description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="written by process 0")
    parser.add_argument("--port", type=int, default=29511, help="at which process 0 listens")
    parser.add_argument("--data", default="", help="in place of the recipe's")
    parser.add_argument("--set", dest="changes", action="append", default=[])
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds")
    given = parser.parse_args(arguments)
    with reported("launch"):
        place = Place.of(os.environ)
        recipe = load_recipe(given.recipe, given.changes)
        splits = open_data(recipe.data, given.data)
        address = f"{place.master}:{given.port}"
        if place.rank:
            training = SharedTraining(recipe, splits, test=False)
            host = place.own_address(given.port)
            work(training, address, host=host, timeout_s=given.timeout)
            return
        trainer = ParallelTrainer(
            recipe,
            splits,
            given.output,
            resume=given.resume or place.restarts > 0,
            address=address,
            parts=place.size - 1,
            timeout_s=given.timeout,
        )
        print(json.dumps(dict(trainer.run().summary), indent=2))


if __name__ == "__main__":
    main()
