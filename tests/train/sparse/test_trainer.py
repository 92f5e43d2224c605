import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trencadis_train.data.labelled import Labelled, Splits
from trencadis_train.errors import TrainingError
from trencadis_train.recipe import Recipe
from trencadis_train.sparse.finished import SparseFinished, load_sparse
from trencadis_train.sparse.trainer import SparseTrainer
from trencadis_train.training.metrics import EpochMetrics
from trencadis_train.training.score import DivergedError

MakeSparse = Callable[..., Recipe]


def same(one: SparseFinished, other: SparseFinished) -> bool:
    return all(
        np.array_equal(a.weights, b.weights)
        and np.array_equal(a.topology.keys(), b.topology.keys())
        and np.array_equal(a.bias, b.bias)
        and a.output == b.output
        for a, b in zip(one.network.layers, other.network.layers, strict=True)
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sparse": {"activation": "relu", "evolution": "rigl", "cosine_fraction": True}},
        {"sparse": {"activation": "leaky-relu", "evolution": "fixed", "clip": 1.0}},
        {"sparse": {"standardise": "features"}},
        {"sparse": {"loss": "mse"}, "training": {"epochs": 40, "learning_rate": 0.04}},
        {
            "layer": [
                {"kind": "linear", "units": 24, "ways": 4, "nonzeros": 30},
                {"kind": "linear", "units": 16, "winners": 6},
                {"kind": "linear", "units": 4},
            ]
        },
    ],
)
def test_it_learns(make_sparse: MakeSparse, quadrants: Splits, changes: dict[str, Any]) -> None:
    finished = SparseTrainer(make_sparse(**changes), quadrants).run()
    accuracy = finished.summary["accuracy"]
    assert accuracy["float"]["test"] >= 0.8
    assert accuracy["int8"]["test"] >= accuracy["float"]["test"] - 0.05
    outputs = finished.network(quadrants.test.images)
    assert (outputs.argmax(1) == quadrants.test.labels).mean() == accuracy["int8"]["test"]


def test_the_folder_has_everything(
    make_sparse: MakeSparse, quadrants: Splits, tmp_path: Path
) -> None:
    rows: list[EpochMetrics] = []
    recipe = make_sparse()
    finished = SparseTrainer(recipe, quadrants, tmp_path, on_epoch=rows.append).run()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "checkpoint.safetensors",
        "curves.png",
        "metrics.csv",
        "metrics.json",
        "sparse.safetensors",
        "tiny.onnx",
        "topology.csv",
        "topology.png",
    }
    assert json.loads((tmp_path / "metrics.json").read_text()) == finished.summary
    assert [(row.phase, row.epoch) for row in rows] == [
        *(("float", epoch) for epoch in range(1, 7)),
        *(("integers", epoch) for epoch in range(3)),
    ]
    lines = (tmp_path / "topology.csv").read_text().splitlines()
    assert len(lines) == 1 + 6 * 3
    changed = [int(line.split(",")[4]) for line in lines[1:] if line.split(",")[1] == "0"]
    assert changed[0] == 0
    assert all(changed[1:5])
    assert changed[5] == 0  # three quarters of the training are over
    model, loaded = load_sparse(tmp_path)
    assert loaded == recipe
    assert model.connections == finished.model.connections


@pytest.mark.parametrize("last", [("float", 2), ("float", 6), ("integers", 1)])
def test_a_training_that_died_goes_on(
    make_sparse: MakeSparse, quadrants: Splits, tmp_path: Path, last: tuple[str, int]
) -> None:
    recipe = make_sparse(sparse={"prune": "during", "prune_from": 0.3, "prune_every": 2})
    expected = SparseTrainer(recipe, quadrants).run()

    def die(row: EpochMetrics) -> None:
        if (row.phase, row.epoch) == last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SparseTrainer(recipe, quadrants, tmp_path, on_epoch=die).run()
    finished = SparseTrainer(recipe, quadrants, tmp_path, resume=True).run()
    assert same(finished, expected)


@pytest.mark.parametrize("when", ["during", "after"])
def test_pruning_shrinks_layers(make_sparse: MakeSparse, quadrants: Splits, when: str) -> None:
    recipe = make_sparse(
        sparse={"prune": when, "prune_from": 0.3, "prune_every": 2, "prune_percentile": 20}
    )
    finished = SparseTrainer(recipe, quadrants).run()
    whole = SparseTrainer(make_sparse(), quadrants).run()
    assert finished.model.widths[1] < 24
    assert finished.model.connections < whole.model.connections
    assert finished.summary["layers"][0]["units"] == finished.model.widths[1]


def test_other_checkpoints_are_refused(
    make_sparse: MakeSparse, quadrants: Splits, tmp_path: Path
) -> None:
    recipe = make_sparse(training={"epochs": 1})
    SparseTrainer(recipe, quadrants, tmp_path).run()
    with pytest.raises(TrainingError, match="was made with another recipe, which differs in sp"):
        SparseTrainer(
            make_sparse(training={"epochs": 1}, sparse={"epsilon": 5}),
            quadrants,
            tmp_path,
            resume=True,
        )
    others = replace(quadrants, validation=quadrants.test)
    with pytest.raises(TrainingError, match="was made with other data"):
        SparseTrainer(recipe, others, tmp_path, resume=True)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(TrainingError, match="not a usable checkpoint"):
        SparseTrainer(recipe, quadrants, tmp_path, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dynamic": {"every": 3}}, "dynamic must be left out with engine"),
        ({"training": {"optimizer": "adamw"}}, "training.optimizer must be 'sgd' with engine"),
        ({"augment": {"mixup": 0.2}}, "augment.mixup must be 0.0 with engine"),
        (
            {"layer": [{"kind": "conv", "units": 4}, {"kind": "linear", "units": 4}]},
            "layer.0.kind must be 'linear' with engine",
        ),
        (
            {"layer": [{"kind": "linear", "units": 4, "nonzeros": 145}]},
            r"layer 0: nonzeros \(the fan-in\) must be at most 144 of 144 inputs, not 145",
        ),
        ({"layer": [{"kind": "linear", "units": 3}]}, "the last layer must have a unit for each"),
        ({"sparse": {"epsilon": 1e-4}}, "layer 0: epsilon must leave a connection"),
        (
            {"layer": [{"kind": "linear", "units": 10**10}, {"kind": "linear", "units": 4}]},
            r"training \d+ connections of \d+ neurons needs .* GiB of memory, and .* available",
        ),
    ],
)
def test_bad_recipes_are_one_line(
    make_sparse: MakeSparse, quadrants: Splits, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        SparseTrainer(make_sparse(**changes), quadrants)
    assert "\n" not in str(caught.value)


def test_divergence_is_said(make_sparse: MakeSparse, quadrants: Splits) -> None:
    recipe = make_sparse(training={"learning_rate": 1e20})
    with pytest.raises(DivergedError, match=r"phase .float., epoch 1: .*lower learning_rate"):
        SparseTrainer(recipe, quadrants).run()


def test_a_single_class_is_refused(make_sparse: MakeSparse, quadrants: Splits) -> None:
    part = Labelled(quadrants.test.images, np.zeros(len(quadrants.test), np.int64))
    with pytest.raises(TrainingError, match="training needs two classes at least"):
        SparseTrainer(make_sparse(), Splits(part, part, part, ("a",)))


def test_augmentation_is_the_other_engine_s(make_sparse: MakeSparse, quadrants: Splits) -> None:
    pytest.importorskip("torch")
    plain = SparseTrainer(make_sparse(), quadrants).run()
    moved = SparseTrainer(make_sparse(augment={"shift": 1}), quadrants).run()
    assert moved.summary["accuracy"]["float"]["test"] >= 0.7
    assert not same(plain, moved)
