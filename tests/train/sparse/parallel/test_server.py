import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from trencadis_train.data.labelled import Splits
from trencadis_train.errors import TrainingError
from trencadis_train.recipe import Recipe
from trencadis_train.sparse.parallel.pool import Pool
from trencadis_train.sparse.parallel.shares import SharedTraining
from trencadis_train.sparse.parallel.trainer import ParallelTrainer
from trencadis_train.sparse.parallel.wire import open_store, signature
from trencadis_train.sparse.parallel.worker import work
from trencadis_train.training.metrics import EpochMetrics

MakeSparse = Callable[..., Recipe]


def together(
    recipe: Recipe, splits: Splits, workers: int, folder: Path | None = None, **options: Any
) -> tuple[Any, list[EpochMetrics]]:
    """Train with workers that are threads of this process."""
    rows: list[EpochMetrics] = []
    trainer = ParallelTrainer(
        recipe, splits, folder, on_epoch=rows.append, timeout_s=120, parts=workers, **options
    )
    address = trainer.training.server.address
    threads = [
        threading.Thread(target=work, args=(SharedTraining(recipe, splits, test=False), address))
        for _ in range(workers)
    ]
    for thread in threads:
        thread.start()
    finished = trainer.run()
    for thread in threads:
        thread.join(timeout=20)
        assert not thread.is_alive()
    return finished, rows


@pytest.mark.parametrize(("synchronous", "local"), [(False, 0), (False, 2), (True, 0)])
def test_two_workers_learn(
    make_sparse: MakeSparse, quadrants: Splits, synchronous: bool, local: int
) -> None:
    recipe = make_sparse(sparse={"synchronous": synchronous, "local_epochs": local})
    finished, rows = together(recipe, quadrants, 2)
    assert finished.summary["accuracy"]["float"]["test"] >= 0.7
    floats = [row for row in rows if row.phase == "float"]
    assert len(floats) == 6 - max(0, local - 1)
    assert all(0 < row.loss < 3 for row in floats)


def test_one_worker_in_step_is_the_training_alone(
    make_sparse: MakeSparse, quadrants: Splits
) -> None:
    """With one worker there is no staleness: gradients are those of the weights they change."""
    recipe = make_sparse(sparse={"evolution": "fixed"}, quantisation={"epochs": 0})
    one, _ = together(recipe, quadrants, 1)
    other, _ = together(recipe, quadrants, 1)
    for a, b in zip(one.model.layers, other.model.layers, strict=True):
        assert np.array_equal(a.weights, b.weights)


def test_other_recipes_and_versions_are_refused(make_sparse: MakeSparse, quadrants: Splits) -> None:
    recipe = make_sparse()
    trainer = ParallelTrainer(recipe, quadrants, timeout_s=120)
    try:
        address = trainer.training.server.address
        stranger = SharedTraining(replace(recipe, seed=9), quadrants, test=False)
        with pytest.raises(TrainingError, match="the server trains another recipe or other data"):
            work(stranger, address)
        assert trainer.training.server.alive == 0
    finally:
        trainer.training.close()
    assert signature(recipe, "a").tolist() != signature(recipe, "b").tolist()


def test_without_workers_it_ends_with_one_line(make_sparse: MakeSparse, quadrants: Splits) -> None:
    trainer = ParallelTrainer(make_sparse(), quadrants, timeout_s=1)
    with pytest.raises(TrainingError, match="no worker has been there for 1 s; start one"):
        trainer.run()


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:99999", "127.0.0.1:x"])
def test_addresses_are_host_and_port(address: str) -> None:
    with pytest.raises(TrainingError, match="an address must be HOST:PORT, not"):
        open_store(address, server=True, timeout_s=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evolution": "rigl"}, "sparse.evolution must be fixed or set with several workers"),
        ({"local_epochs": 6}, "sparse.local_epochs must be below the 6 epochs, not 6"),
    ],
)
def test_what_workers_cannot_do(
    make_sparse: MakeSparse, quadrants: Splits, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        ParallelTrainer(make_sparse(sparse=changes), quadrants)


def test_a_worker_that_is_killed_comes_back(
    make_sparse: MakeSparse, quadrants: Splits, quadrants_file: Path, tmp_path: Path
) -> None:
    """Of two processes one is killed; training goes on, and the next one joins it."""
    recipe = make_sparse(
        data={"set": "npz", "path": str(quadrants_file)},
        training={"epochs": 400},
        quantisation={"epochs": 0},
        sparse={"epsilon": 4, "schedule": "constant"},
    )
    path = tmp_path / "recipe.toml"
    path.write_text(_toml(recipe))
    pool = Pool([str(path), "--timeout", "120"], 2)
    counts: list[tuple[int, int]] = []

    class Enough(Exception):
        pass

    def on_epoch(row: EpochMetrics) -> None:
        server = trainer.training.server
        # Processes take seconds to start, the second time after some epochs with one alone.
        if not counts or counts.count((1, 1)) == 3:
            started = time.monotonic()
            while server.alive < 2:
                assert time.monotonic() - started < 120
                time.sleep(0.05)
        counts.append((server.alive, server.deaths))
        if len(counts) == 2:
            os.kill(pool.processes[0], signal.SIGKILL)
        if server.deaths and server.alive == 2:
            raise Enough

    trainer = ParallelTrainer(recipe, quadrants, pool=pool, timeout_s=120, on_epoch=on_epoch)
    with pytest.raises(Enough):
        trainer.run()
    assert (2, 0) in counts
    assert counts[-1] == (2, 1)


def _toml(recipe: Recipe) -> str:
    data = recipe.to_dict()
    lines = [f'name = "{recipe.name}"', f"seed = {recipe.seed}", 'engine = "sparse"']
    lines += ["[data]", 'set = "npz"', f'path = "{recipe.data.path}"']
    for layer in data["layer"]:
        lines += ["[[layer]]", 'kind = "linear"', f"units = {layer['units']}"]
        lines += [f"dropout = {layer['dropout']}"]
    training = data["training"]
    lines += ["[training]"]
    lines += [f"{name} = {training[name]}" for name in ("epochs", "batch", "learning_rate")]
    lines += [f"weight_decay = {training['weight_decay']}"]
    lines += ["[sparse]", "epsilon = 4.0", 'schedule = "constant"']
    lines += ["[quantisation]", "epochs = 0", "calibration = 64"]
    return "\n".join(lines) + "\n"
