import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from trencadis_train.data.labelled import Splits
from trencadis_train.errors import TrainingError
from trencadis_train.network.layers import SparseConv2d, SparseLinear
from trencadis_train.network.network import build_network
from trencadis_train.network.warm_start import begin_with
from trencadis_train.recipe import LayerRecipe, Recipe
from trencadis_train.sparsity.masks import count_collisions
from trencadis_train.training.epoch import Examples, evaluate
from trencadis_train.training.metrics import EpochMetrics
from trencadis_train.training.trainer import Trainer

MakeRecipe = Callable[..., Recipe]

CONV = LayerRecipe(kind="conv", units=8, window=3, ways=2, pool=2, winners=2)
LINEAR = LayerRecipe(kind="linear", units=16, ways=4)
LAST = LayerRecipe(kind="linear", units=4)
SHAPE = (1, 8, 8)


class _Killed(Exception):
    """Stands for whatever ends a process."""


def _network(*layers: LayerRecipe, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    network = build_network(layers, SHAPE, 4, seed)
    with torch.no_grad():
        for _ in range(3):  # of batch-norm's averages
            network(torch.rand(16, *SHAPE))
    return network.eval()


def _masked(network: nn.Sequential) -> list[SparseConv2d | SparseLinear]:
    return [module for module in network if isinstance(module, (SparseConv2d, SparseLinear))]


def test_a_network_of_the_same_structure_becomes_the_same() -> None:
    layers = [CONV, LINEAR, LAST]
    source, model = _network(*layers, seed=1), _network(*layers, seed=2)
    x = torch.rand(5, *SHAPE)
    assert not torch.equal(model(x), source(x))
    begin_with(model, layers, source, layers)
    assert torch.equal(model(x), source(x))
    for one, other in zip(_masked(model), _masked(source), strict=True):
        assert torch.equal(one.mask, other.mask)
        assert torch.equal(one.sets, other.sets)
        assert one.weight is not other.weight


def test_winners_and_dropout_may_differ() -> None:
    other = [LayerRecipe(kind="conv", units=8, window=3, ways=2, pool=2, dropout=0.1), LINEAR, LAST]
    source, model = _network(CONV, LINEAR, LAST, seed=1), _network(*other, seed=2)
    begin_with(model, other, source, [CONV, LINEAR, LAST])
    assert all(
        torch.equal(ours.weight, theirs.weight)
        for ours, theirs in zip(_masked(model), _masked(source), strict=True)
    )


def test_sparser_masks_keep_large_weights_and_are_complementary() -> None:
    sparser = LayerRecipe(kind="linear", units=16, ways=8)
    source, model = _network(CONV, LINEAR, LAST, seed=1), _network(CONV, sparser, LAST, seed=2)
    begin_with(model, [CONV, sparser, LAST], source, [CONV, LINEAR, LAST])
    ours, theirs = _masked(model)[1], _masked(source)[1]
    assert ours.nonzeros == theirs.nonzeros // 2
    assert count_collisions(ours.mask_array(), ours.sets_array()) == 0
    kept = ours.masked_weight()
    assert torch.equal(kept, theirs.weight * ours.mask)
    # A random half of the weights would have half of the magnitude.
    assert kept.abs().sum() > 0.6 * theirs.masked_weight().abs().sum()
    assert torch.equal(_masked(model)[0].mask, _masked(source)[0].mask)


@pytest.mark.parametrize(
    ("layers", "weights"),
    [
        ([CONV, LayerRecipe(kind="linear", units=32), LAST], "[8, 1, 3, 3], [32, 72], [4, 32]"),
        ([CONV, LAST], "[8, 1, 3, 3], [4, 72]"),
    ],
)
def test_networks_that_do_not_fit_are_refused(layers: list[LayerRecipe], weights: str) -> None:
    model = _network(CONV, LINEAR, LAST, seed=1)
    source = _network(*layers, seed=1)
    with pytest.raises(TrainingError, match=re.escape(f"its layers have weights [{weights}]")):
        begin_with(model, [CONV, LINEAR, LAST], source, layers)


def test_masks_that_cannot_be_made_name_the_layer() -> None:
    crowded = LayerRecipe(kind="linear", units=16, ways=4)
    model, source = _network(CONV, LINEAR, LAST, seed=1), _network(CONV, LINEAR, LAST, seed=2)
    impossible = LayerRecipe(kind="linear", units=16, ways=4, nonzeros=60)
    with pytest.raises(TrainingError, match=r"layer 1: nonzeros must be in 1\.\.18"):
        begin_with(model, [CONV, impossible, LAST], source, [CONV, crowded, LAST])


def test_a_training_begins_with_another_resumes_and_has_a_teacher(
    make_recipe: MakeRecipe, quadrants: Splits, tmp_path: Path
) -> None:
    first = Trainer(make_recipe(training={"epochs": 6}), quadrants, tmp_path / "first").run()
    recipe = make_recipe(
        seed=8,
        training={"start": str(tmp_path / "first"), "learning_rate": 1e-9, "winners_warm_up": 0},
        distillation={"teacher": str(tmp_path / "first")},
    )
    whole: list[EpochMetrics] = []
    expected = Trainer(recipe, quadrants, tmp_path / "second", on_epoch=whole.append).run()
    # At this rate only batch-norm moves.
    for ours, theirs in zip(_masked(expected.model), _masked(first.model), strict=True):
        assert torch.equal(ours.mask, theirs.mask)
        assert torch.allclose(ours.weight, theirs.weight, atol=1e-6)
    assert evaluate(expected.model, Examples.on(torch.device("cpu"), quadrants.test)).accuracy > 0.9

    def die(row: EpochMetrics) -> None:
        if (row.phase, row.epoch) == ("float", 2):
            raise _Killed

    with pytest.raises(_Killed):
        Trainer(recipe, quadrants, tmp_path / "third", on_epoch=die).run()
    resumed = Trainer(recipe, quadrants, tmp_path / "third", resume=True).run()
    for ours, theirs in zip(resumed.network.layers, expected.network.layers, strict=True):
        assert np.array_equal(ours.weights, theirs.weights)
        assert np.array_equal(ours.bias, theirs.bias)


def test_a_training_to_begin_with_must_be_there_and_fit(
    make_recipe: MakeRecipe, quadrants: Splits, tmp_path: Path
) -> None:
    recipe = make_recipe(training={"start": str(tmp_path / "none")})
    with pytest.raises(TrainingError, match="none: holds no finished training"):
        Trainer(recipe, quadrants)
    other = make_recipe(training={"epochs": 1}, layer=[{"kind": "linear", "units": 4}])
    Trainer(other, quadrants, tmp_path / "other").run()
    recipe = make_recipe(training={"start": str(tmp_path / "other")})
    with pytest.raises(
        TrainingError, match="other: nothing to begin with: its layers have weights"
    ):
        Trainer(recipe, quadrants)
