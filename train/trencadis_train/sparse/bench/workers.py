"""Several workers: speed, accuracy, and a worker that is killed."""

import os
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from trencadis_train.data.datasets import open_data
from trencadis_train.recipe import load_recipe
from trencadis_train.sparse.parallel.pool import Pool
from trencadis_train.sparse.parallel.trainer import ParallelTrainer
from trencadis_train.sparse.trainer import SparseTrainer
from trencadis_train.training.metrics import EpochMetrics

__all__ = ["measure_workers"]

RECIPE = Path("examples/fashion/published.toml")

LOCAL = 3
"""Epochs of local training."""


def measure_workers(seed: int = 1) -> dict[str, Any]:
    """One process, two, two with one killed -9 in the fourth epoch: seconds and test accuracy."""
    return {
        "one": _alone(seed),
        "two": _together(seed, kill=False),
        "killed": _together(seed, kill=True),
    }


def _alone(seed: int) -> dict[str, Any]:
    recipe = replace(load_recipe(RECIPE), seed=seed)
    splits = open_data(recipe.data)
    cpu, wall = time.process_time(), time.monotonic()
    finished = SparseTrainer(recipe, splits).run()
    return {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.monotonic() - wall,
        "test": finished.summary["accuracy"]["float"]["test"],
    }


def _together(seed: int, *, kill: bool) -> dict[str, Any]:
    changes = [f"sparse.local_epochs={LOCAL}", f"seed={seed}"]
    recipe = load_recipe(RECIPE, changes)
    splits = open_data(recipe.data)
    arguments = [str(RECIPE)]
    for change in changes:
        arguments += ["--set", change]
    pool = Pool(arguments, 2)
    alive: list[int] = []
    times: list[float] = []

    def on_epoch(row: EpochMetrics) -> None:
        alive.append(trainer.training.server.alive)
        times.append(time.monotonic())
        if kill and row.phase == "float" and row.epoch == 4:
            os.kill(pool.processes[0], signal.SIGKILL)

    trainer = ParallelTrainer(recipe, splits, pool=pool, on_epoch=on_epoch)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = time.process_time()
    wall = time.monotonic()
    finished = trainer.run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "server_cpu_s": time.process_time() - cpu,
        "workers_cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "wall_s": time.monotonic() - wall,
        "wall_s_from_second_epoch": times[-1] - times[0],
        "workers_alive": alive,
        "test": finished.summary["accuracy"]["float"]["test"],
    }
