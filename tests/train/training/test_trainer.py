import csv
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from trencadis_train.data.labelled import Labelled, Splits
from trencadis_train.errors import TrainingError
from trencadis_train.network.export import run_onnx
from trencadis_train.network.integers import IntegerNetwork
from trencadis_train.network.layers import SparseConv2d, SparseLinear
from trencadis_train.recipe import Recipe
from trencadis_train.sparsity.masks import count_collisions
from trencadis_train.training.checkpoint import Checkpoint
from trencadis_train.training.finished import Finished, load_finished
from trencadis_train.training.metrics import EpochMetrics
from trencadis_train.training.score import DivergedError
from trencadis_train.training.trainer import Trainer

MakeRecipe = Callable[..., Recipe]


class _Killed(Exception):
    """Stands for whatever ends a process."""


def _same(first: IntegerNetwork, second: IntegerNetwork) -> bool:
    return len(first.layers) == len(second.layers) and all(
        np.array_equal(ours, theirs)
        for a, b in zip(first.layers, second.layers, strict=True)
        for ours, theirs in (
            (a.weights, b.weights),
            (a.bias, b.bias),
            (a.weight_scale, b.weight_scale),
            (a.output.scale, b.output.scale),
        )
    )


def _timeless(rows: list[EpochMetrics]) -> list[dict[str, Any]]:
    return [asdict(replace(row, seconds=0)) for row in rows]


def test_learns_and_reports(make_recipe: MakeRecipe, quadrants: Splits, tmp_path: Path) -> None:
    rows: list[EpochMetrics] = []
    batches: list[tuple[str, int, float]] = []
    recipe = make_recipe(training={"epochs": 6})
    finished = Trainer(
        recipe,
        quadrants,
        tmp_path / "out",
        on_epoch=rows.append,
        on_batch=lambda *place: batches.append(place),
    ).run()
    summary = finished.summary
    assert summary["accuracy"]["int8"]["test"] >= 0.9
    assert summary["accuracy"]["float"]["test"] >= 0.9
    assert summary["epochs"] == {"float": 6, "integers": 2}
    assert summary["examples"] == {"train": 96, "validation": 40, "test": 40}
    assert summary["in_mask"] == 36 + 144 + 288 + 64
    assert summary["nonzeros"] == finished.network.nonzeros <= summary["in_mask"]
    assert summary["data_credit"] == "nobody"
    assert [(row.phase, row.epoch) for row in rows] == [
        *(("float", i) for i in range(1, 7)),
        *(("integers", i) for i in range(3)),
    ]
    assert rows[-1].winners == "2 2 4"
    assert rows[0].boost > 0 == rows[5].boost
    assert batches[0] == ("float", 1, 0)
    assert batches[-1] == ("integers", 2, 5 / 6)
    assert json.loads((tmp_path / "out/metrics.json").read_text()) == summary
    with (tmp_path / "out/metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["epoch"] for row in table] == [str(row.epoch) for row in rows]
    assert float(table[2]["loss"]) == pytest.approx(rows[2].loss, rel=1e-5)
    assert (tmp_path / "out/curves.png").read_bytes()[:4] == b"\x89PNG"
    words = quadrants.test.images[:, None].astype(np.float32)
    outputs = run_onnx(tmp_path / "out/tiny.onnx", words)
    right = outputs.argmax(axis=1) == quadrants.test.labels
    assert right.mean() == summary["accuracy"]["int8"]["test"]


def test_the_same_seed_gives_the_same_network(
    trained: Finished, make_recipe: MakeRecipe, quadrants: Splits
) -> None:
    torch.manual_seed(99)
    assert _same(Trainer(make_recipe(), quadrants).run().network, trained.network)
    other = Trainer(make_recipe(seed=4), quadrants).run()
    assert not _same(other.network, trained.network)


@pytest.mark.parametrize("last", [("float", 1), ("float", 3), ("integers", 0), ("integers", 1)])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_what_died_goes_on_and_gives_what_it_would_have_given(
    make_recipe: MakeRecipe,
    quadrants: Splits,
    tmp_path: Path,
    last: tuple[str, int],
    optimizer: str,
) -> None:
    rate = 0.1 if optimizer == "sgd" else 0.003
    recipe = make_recipe(
        training={"optimizer": optimizer, "learning_rate": rate},
        dynamic={"every": 4, "regrow": "random"},
    )
    whole: list[EpochMetrics] = []
    expected = Trainer(recipe, quadrants, on_epoch=whole.append).run()

    def die(row: EpochMetrics) -> None:
        if (row.phase, row.epoch) == last:
            raise _Killed

    with pytest.raises(_Killed):
        Trainer(recipe, quadrants, tmp_path, on_epoch=die).run()
    rows: list[EpochMetrics] = []
    finished = Trainer(recipe, quadrants, tmp_path, resume=True, on_epoch=rows.append).run()
    assert _same(finished.network, expected.network)
    assert _timeless(rows) == _timeless(whole[-len(rows) :])
    with (tmp_path / "metrics.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(whole)


def test_a_training_that_died_in_an_epoch_goes_on_from_the_one_before(
    make_recipe: MakeRecipe, quadrants: Splits, trained: Finished, tmp_path: Path
) -> None:
    def die(phase: str, epoch: int, part: float) -> None:
        if epoch == 2 and part > 0.5:
            raise _Killed

    with pytest.raises(_Killed):
        Trainer(make_recipe(), quadrants, tmp_path, on_batch=die).run()
    finished = Trainer(make_recipe(), quadrants, tmp_path, resume=True).run()
    assert _same(finished.network, trained.network)


def test_the_best_survives_even_if_it_was_not_the_last(
    make_recipe: MakeRecipe, quadrants: Splits, tmp_path: Path
) -> None:
    # At such a rate the first epochs are better than those that follow.
    recipe = make_recipe(
        training={"epochs": 4, "learning_rate": 2.0, "warm_up": 0.0, "winners_warm_up": 0.0}
    )
    whole: list[EpochMetrics] = []
    expected = Trainer(recipe, quadrants, on_epoch=whole.append).run()
    after = next(row for row in whole if row.epoch > 1 and not row.best)

    def die(row: EpochMetrics) -> None:
        if (row.phase, row.epoch) == (after.phase, after.epoch):
            raise _Killed

    with pytest.raises(_Killed):
        Trainer(recipe, quadrants, tmp_path, on_epoch=die).run()
    finished = Trainer(recipe, quadrants, tmp_path, resume=True).run()
    assert _same(finished.network, expected.network)
    assert finished.summary["accuracy"] == expected.summary["accuracy"]


def test_resuming_nothing_begins(
    make_recipe: MakeRecipe, quadrants: Splits, trained: Finished, tmp_path: Path
) -> None:
    finished = Trainer(make_recipe(), quadrants, tmp_path / "new", resume=True).run()
    assert _same(finished.network, trained.network)


def test_a_folder_with_a_training_is_not_overwritten(
    make_recipe: MakeRecipe, quadrants: Splits, tmp_path: Path
) -> None:
    Trainer(make_recipe(), quadrants, tmp_path).run()
    with pytest.raises(TrainingError, match="holds a training already; go on with it by --resume"):
        Trainer(make_recipe(), quadrants, tmp_path)
    changed = make_recipe(training={"epochs": 4}, seed=9)
    with pytest.raises(TrainingError, match=r"differs in seed, training.epochs; restore it"):
        Trainer(changed, quadrants, tmp_path, resume=True)
    part = quadrants.train
    others = replace(quadrants, train=Labelled(part.images[::-1].copy(), part.labels[::-1].copy()))
    with pytest.raises(TrainingError, match="was made with other data"):
        Trainer(make_recipe(), others, tmp_path, resume=True)
    noisy = replace(quadrants, noise=np.zeros((2, 12, 12), np.uint8))
    with pytest.raises(TrainingError, match="was made with other data"):
        Trainer(make_recipe(), noisy, tmp_path, resume=True)


def test_a_damaged_checkpoint_is_named(
    make_recipe: MakeRecipe, quadrants: Splits, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"no checkpoint")
    with pytest.raises(TrainingError, match=r"checkpoint\.safetensors: not a usable checkpoint"):
        Trainer(make_recipe(), quadrants, tmp_path, resume=True)


def test_a_folder_that_cannot_be_made_is_named(
    make_recipe: MakeRecipe, quadrants: Splits, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot be made: Not a directory"):
        Trainer(make_recipe(), quadrants, tmp_path / "file" / "out")


def test_divergence_names_phase_and_epoch(make_recipe: MakeRecipe, quadrants: Splits) -> None:
    recipe = make_recipe(training={"learning_rate": 1e30, "warm_up": 0.0})
    with pytest.raises(DivergedError, match=r"phase 'float', epoch \d: the loss became"):
        Trainer(recipe, quadrants).run()


def test_a_last_step_that_diverges_is_noticed(make_recipe: MakeRecipe, quadrants: Splits) -> None:
    # With one batch an epoch the loss was fine before the step.
    training = {"learning_rate": 1e20, "warm_up": 0.0, "batch": 96, "winners_warm_up": 0.0}
    with pytest.raises(DivergedError, match="epoch 1: the loss on validation data became"):
        Trainer(make_recipe(training=training), quadrants).run()


def test_huge_losses_are_divergence(make_recipe: MakeRecipe, quadrants: Splits) -> None:
    training = {"learning_rate": 1e5, "warm_up": 0.0, "batch": 96, "winners_warm_up": 0.0}
    with pytest.raises(DivergedError, match=r"the loss on validation data became \d"):
        Trainer(make_recipe(training=training), quadrants).run()


def test_the_last_epochs_can_be_chosen(
    make_recipe: MakeRecipe, quadrants: Splits, tmp_path: Path
) -> None:
    # At such a rate the first epochs are better than those that follow.
    changes: dict[str, Any] = {"epochs": 4, "learning_rate": 2.0, "warm_up": 0.0}
    changes["winners_warm_up"] = 0.0
    last = make_recipe(training={**changes, "choose": "last"})
    rows: list[EpochMetrics] = []
    finished = Trainer(last, quadrants, on_epoch=rows.append).run()
    assert [(row.phase, row.epoch) for row in rows if row.best] == [("float", 4), ("integers", 2)]
    accuracy = finished.summary["accuracy"]
    assert accuracy["float"]["validation"] == rows[3].validation_accuracy
    assert accuracy["int8"]["validation"] == rows[-1].validation_accuracy
    best: list[EpochMetrics] = []
    Trainer(make_recipe(training=changes), quadrants, on_epoch=best.append).run()
    assert [row.validation_accuracy for row in best[:4]] == [
        row.validation_accuracy for row in rows[:4]
    ]
    assert not best[3].best

    def die(row: EpochMetrics) -> None:
        if (row.phase, row.epoch) == ("integers", 1):
            raise _Killed

    with pytest.raises(_Killed):
        Trainer(last, quadrants, tmp_path, on_epoch=die).run()
    assert _same(Trainer(last, quadrants, tmp_path, resume=True).run().network, finished.network)


def test_patience_ends_the_first_phase(make_recipe: MakeRecipe, quadrants: Splits) -> None:
    # At this rate nothing is learnt, so the first epoch that counts stays the best or nearly so.
    recipe = make_recipe(
        augment={"shift": 0},
        training={"epochs": 40, "learning_rate": 1e-12, "patience": 2, "winners_warm_up": 0.1},
    )
    rows: list[EpochMetrics] = []
    finished = Trainer(recipe, quadrants, on_epoch=rows.append).run()
    epochs = finished.summary["epochs"]["float"]
    best = max(row.epoch for row in rows if row.phase == "float" and row.best)
    assert epochs == best + 2 < 40


def test_the_best_counts_only_from_the_final_k_on(
    make_recipe: MakeRecipe, quadrants: Splits
) -> None:
    rows: list[EpochMetrics] = []
    recipe = make_recipe(training={"epochs": 4, "winners_warm_up": 0.75})
    Trainer(recipe, quadrants, on_epoch=rows.append).run()
    assert [row.best for row in rows[:2]] == [False, False]
    assert rows[2].best
    assert [row.winners for row in rows[:3]] == ["5 5 10", "3 3 6", "2 2 4"]


def test_the_test_part_can_be_left_alone(make_recipe: MakeRecipe, quadrants: Splits) -> None:
    summary = Trainer(make_recipe(), quadrants, test=False).run().summary
    assert summary["accuracy"]["int8"].keys() == {"validation"}


def test_masks_that_change_stay_complementary(make_recipe: MakeRecipe, quadrants: Splits) -> None:
    fixed = Trainer(make_recipe(), quadrants).run().model
    for regrow in ("gradient", "random"):
        recipe = make_recipe(dynamic={"every": 3, "regrow": regrow})
        model = Trainer(recipe, quadrants).run().model
        changed = 0
        for before, after in zip(fixed, model, strict=True):
            if isinstance(after, (SparseConv2d, SparseLinear)):
                assert isinstance(before, (SparseConv2d, SparseLinear))
                assert count_collisions(after.mask_array(), after.sets_array()) == 0
                assert after.nonzeros == before.nonzeros
                changed += not torch.equal(before.mask, after.mask)
        # The first layer has so few weights that they may change back.
        assert changed >= 2


def test_a_teacher_is_a_finished_training(
    make_recipe: MakeRecipe, quadrants: Splits, trained: Finished, tmp_path: Path
) -> None:
    first = Trainer(make_recipe(), quadrants, tmp_path).run()
    model, recipe = load_finished(tmp_path)
    assert recipe == make_recipe()
    words = torch.from_numpy(quadrants.test.images[:, None]).float() / 255
    with torch.no_grad():
        assert torch.equal(model(words), first.model(words))
    student = make_recipe(distillation={"teacher": str(tmp_path)})
    assert not _same(Trainer(student, quadrants).run().network, trained.network)


def test_every_teacher_counts_and_none_is_trained(
    make_recipe: MakeRecipe, quadrants: Splits, tmp_path: Path
) -> None:
    short = {"epochs": 1}
    for name, seed in (("a", 1), ("b", 2)):
        Trainer(make_recipe(training=short, seed=seed), quadrants, tmp_path / name).run()
    taught = []
    for names in (["a"], ["b"], ["a", "b"], ["b", "a"]):
        folders = [str(tmp_path / name) for name in names]
        recipe = make_recipe(training=short, distillation={"teacher": folders})
        trainer = Trainer(recipe, quadrants)
        objective: Any = trainer.trainable
        assert not any(teacher.training for teacher in objective.objective.teachers)
        taught.append(trainer.run().network)
    alone, other, both, swapped = taught
    assert not _same(alone, other)
    assert not _same(both, alone)
    assert not _same(both, other)
    assert _same(both, swapped)


def test_a_training_is_not_resumed_with_another_teacher(
    make_recipe: MakeRecipe, quadrants: Splits, tmp_path: Path
) -> None:
    short = {"epochs": 1}
    Trainer(make_recipe(training=short), quadrants, tmp_path / "teacher").run()
    recipe = make_recipe(distillation={"teacher": str(tmp_path / "teacher")})
    Trainer(recipe, quadrants, tmp_path / "student").run()
    Trainer(recipe, quadrants, tmp_path / "student", resume=True)
    Trainer(make_recipe(training=short, seed=9), quadrants, tmp_path / "other").run()
    (tmp_path / "other/float.safetensors").replace(tmp_path / "teacher/float.safetensors")
    with pytest.raises(TrainingError, match="was made with other teachers in the same folders"):
        Trainer(recipe, quadrants, tmp_path / "student", resume=True)


def test_a_teacher_that_does_not_fit_is_refused(
    make_recipe: MakeRecipe, quadrants: Splits, tmp_path: Path
) -> None:
    student = make_recipe(distillation={"teacher": str(tmp_path)})
    with pytest.raises(TrainingError, match=r"holds no finished training .* finish it, or name"):
        Trainer(student, quadrants)
    layers = [{"kind": "linear", "units": 5}]
    one = {"epochs": 1}
    Trainer(make_recipe(layer=layers, training=one), quadrants, tmp_path / "a").run()
    student = make_recipe(distillation={"teacher": str(tmp_path / "a")})
    with pytest.raises(TrainingError, match="the teacher has 5 outputs, the recipe's network 4"):
        Trainer(student, quadrants)
    part = Labelled(np.zeros((8, 4, 4), np.uint8), np.arange(8) % 4)
    small = Splits(part, part, part, quadrants.classes)
    layers = [{"kind": "linear", "units": 4}]
    Trainer(make_recipe(layer=layers, training=one), small, tmp_path / "b").run()
    student = make_recipe(distillation={"teacher": str(tmp_path / "b")})
    with pytest.raises(TrainingError, match=r"b: its network takes no inputs of \[1, 12, 12\]"):
        Trainer(student, quadrants)
    Trainer(make_recipe(training=one), quadrants, tmp_path / "c").run()
    both = make_recipe(distillation={"teacher": [str(tmp_path / "c"), str(tmp_path / "b")]})
    with pytest.raises(TrainingError, match=r"b: its network takes no inputs of"):
        Trainer(both, quadrants)


def test_a_teacher_of_other_classes_is_refused(
    make_recipe: MakeRecipe, quadrants: Splits, tmp_path: Path
) -> None:
    Trainer(make_recipe(training={"epochs": 1}), quadrants, tmp_path).run()
    student = make_recipe(distillation={"teacher": str(tmp_path)})
    swapped = replace(quadrants, classes=tuple("bacd"))
    with pytest.raises(TrainingError, match="its network tells a, b, c, d, the data have b, a, c"):
        Trainer(student, swapped)


def test_a_single_class_is_refused(make_recipe: MakeRecipe, quadrants: Splits) -> None:
    part = Labelled(quadrants.test.images, np.zeros(len(quadrants.test), np.int64))
    with pytest.raises(TrainingError, match="training needs two classes at least"):
        Trainer(make_recipe(), Splits(part, part, part, ("a",)))


def test_half_precision_learns_too(make_recipe: MakeRecipe, quadrants: Splits) -> None:
    recipe = make_recipe(training={"epochs": 6, "precision": "bfloat16"})
    trainer = Trainer(recipe, quadrants)
    seen: set[torch.dtype] = set()
    trainable: Any = trainer.trainable
    last = list(trainable.model.children())[-1]
    last.register_forward_hook(lambda module, given, found: seen.add(found.dtype))
    finished = trainer.run()
    assert torch.bfloat16 in seen
    assert finished.summary["accuracy"]["int8"]["test"] >= 0.75
    assert all(parameter.dtype == torch.float32 for parameter in finished.model.parameters())


def test_rounding_without_further_training(make_recipe: MakeRecipe, quadrants: Splits) -> None:
    finished = Trainer(make_recipe(quantisation={"epochs": 0}), quadrants).run()
    assert finished.summary["epochs"] == {"float": 3, "integers": 0}


def test_a_checkpoint_that_asks_for_the_memory_of_a_hall_is_one_line(
    trained: Finished, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    """Its recipe is of anyone: what it would build is counted before it is built."""
    recipe = make_recipe().to_dict()
    recipe["layer"][2]["units"] = 2**30
    data = {"recipe": recipe, "shape": [1, 12, 12], "classes": ["a", "b"]}
    Checkpoint(trained.model.state_dict(), data).save(tmp_path / "float.safetensors")
    with pytest.raises(TrainingError, match=r"its recipe has .* weights, and the file .* numbers"):
        load_finished(tmp_path)


def test_a_recipe_that_asks_for_too_much_memory_is_one_line(
    make_recipe: MakeRecipe, quadrants: Splits
) -> None:
    layers = [
        {"kind": "linear", "units": 2**24},
        {"kind": "linear", "units": 2**24},
        {"kind": "linear", "units": 4},
    ]
    message = r"the network needs .* GiB of memory, and .* available"
    with pytest.raises(TrainingError, match=message):
        Trainer(make_recipe(layer=layers), quadrants)
